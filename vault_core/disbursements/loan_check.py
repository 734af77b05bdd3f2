"""Whether a loan, read again right before it is paid, is still the one that was to be paid. A decision on values alone."""

from dataclasses import dataclass, field
from datetime import date

from vault_core.clients.mifos import ApprovedLoan, MifosPerson
from vault_core.disbursements.tranches import Part, part_of
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import normalise_phone


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It may be paid."""


@dataclass(frozen=True, slots=True)
class ToPay:
    """The figures that a loan, or its part `tranche`, is to be paid by, and the number (normalised) it goes to."""

    tranche: int
    principal: Money
    payout: Money
    approved_on: date
    phone: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Changed:
    """It may be paid in principle, but for another amount, on another day or to another number: to be examined anew."""

    principal: Money
    payout: Money
    approved_on: date
    client: bool = False  # only the client is another: the mobile number, or not active

    @property
    def reason(self) -> str:
        """What to tell people."""
        if self.client:
            return "the client was changed in Mifos X: another mobile number, or not active"
        return f"the loan was changed in Mifos X: now {self.principal} ({self.payout} to pay), approved {self.approved_on}"


@dataclass(frozen=True, slots=True)
class NotApproved:
    """It may not be paid: Mifos X no longer has it as approved."""

    reason: str


LoanCheck = Unchanged | Changed | NotApproved


def check_client(person: MifosPerson, wanted: ToPay) -> Unchanged | Changed:
    """Compares the client's number as Mifos X has it now with the one that is to be paid; one who is not active is another."""
    try:
        same = person.active and normalise_phone(person.mobile_no or "") == wanted.phone
    except InvalidInput:
        same = False
    return Unchanged() if same else Changed(wanted.principal, wanted.payout, wanted.approved_on, client=True)


def check_loan(loan: ApprovedLoan, wanted: ToPay, *, today: date) -> LoanCheck:
    """Compares the loan as Mifos X has it now with the figures it is to be paid by. `today` is the day in Nairobi."""
    part = part_of(loan, wanted.tranche)
    if not isinstance(part, Part):
        return NotApproved(part.reason)
    put_off = part.due_on is not None and part.due_on > today
    too_late = loan.first_repayment_on is not None and wanted.tranche == 1 and loan.first_repayment_on < today
    if (
        too_late
        or put_off
        or (part.principal, part.payout, loan.approved_on) != (wanted.principal, wanted.payout, wanted.approved_on)
    ):
        return Changed(part.principal, part.payout, loan.approved_on)
    return Unchanged()
