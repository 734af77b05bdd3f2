"""Whether a loan, read again right before it is paid, is still the one that was to be paid. A decision on values alone."""

from dataclasses import dataclass
from datetime import date

from vault_core.clients.mifos import ApprovedLoan
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import normalise_phone

APPROVED = 200


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It may be paid."""


@dataclass(frozen=True, slots=True)
class Changed:
    """It is approved, but for another amount, on another day or to another number: to be examined anew with these figures."""

    loan: ApprovedLoan
    number: bool = False  # only the client's mobile number is another

    @property
    def reason(self) -> str:
        """What to tell people."""
        if self.number:
            return "the client's mobile number was changed in Mifos X"
        return (
            f"the loan was changed in Mifos X: now {self.loan.approved_principal} ({self.loan.net_disbursal} to pay), "
            f"approved {self.loan.approved_on}"
        )


@dataclass(frozen=True, slots=True)
class NotApproved:
    """It may not be paid: Mifos X no longer has it as approved."""

    reason: str


LoanCheck = Unchanged | Changed | NotApproved


def check_number(loan: ApprovedLoan, mobile_no: str | None, *, phone: str) -> Unchanged | Changed:
    """Compares the client's number as Mifos X has it now with the (normalised) one that is to be paid."""
    try:
        return Unchanged() if normalise_phone(mobile_no or "") == phone else Changed(loan, number=True)
    except InvalidInput:
        return Changed(loan, number=True)


def check_loan(loan: ApprovedLoan, *, principal: Money, payout: Money, approved_on: date) -> LoanCheck:
    """Compares the loan as Mifos X has it now with the figures it is to be paid by."""
    if loan.status_id != APPROVED:
        return NotApproved(
            f"Mifos X has the loan in status {loan.status_id}, not approved (200): approve it there, or leave it if it is settled"
        )
    if (loan.approved_principal, loan.net_disbursal, loan.approved_on) != (principal, payout, approved_on):
        return Changed(loan)
    return Unchanged()
