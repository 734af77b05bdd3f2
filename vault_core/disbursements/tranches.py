"""Which part of a loan is paid and posted next. A decision on values alone.

A loan without tranches is one part. Of a tranche loan only the first part shows under status 200; after it the loan is active,
and nothing in Mifos X keeps a tranche from being disbursed twice or beyond the plan (reference/fineract.md section 11): what was
disbursed is counted here, before each payment and each posting.
"""

from dataclasses import dataclass
from datetime import date

from vault_core.clients.mifos import ApprovedLoan
from vault_core.money import ZERO, Money

APPROVED = 200
ACTIVE = 300


@dataclass(frozen=True, slots=True)
class Part:
    """What one disbursement pays and posts: the whole loan, or tranche `number` of `planned`. `due_on` None: at once."""

    number: int
    planned: int
    principal: Money
    payout: Money
    due_on: date | None = None
    older_loan_id: int | None = None  # of a top-up: the loan that it pays off, with `payoff` of the principal
    payoff: Money | None = None


@dataclass(frozen=True, slots=True)
class NoPart:
    """What Mifos X has of the loan does not tell what to pay. `reason` says why and what to do, to people."""

    reason: str
    top_up: bool = False


@dataclass(frozen=True, slots=True)
class WrongState:
    """Mifos X does not have the loan where part `number` would come next."""

    reason: str


PartFound = Part | NoPart | WrongState


def part_of(loan: ApprovedLoan, number: int) -> PartFound:
    """Part `number` (from 1) of the loan as Mifos X has it now, if that is what would be disbursed next."""
    wanted = APPROVED if number == 1 else ACTIVE
    if loan.status_id != wanted:
        return WrongState(
            f"Mifos X has the loan in status {loan.status_id}, not {'approved (200)' if number == 1 else 'active (300)'}: "
            f"{'approve it there, or leave it if it is settled' if number == 1 else 'its next tranche is not due in this state'}"
        )
    if number == 1 and loan.top_up:
        return _top_up(loan)
    if number == 1 and loan.net_disbursal > loan.approved_principal:
        return WrongState(
            f"Mifos X would have {loan.net_disbursal} paid of {loan.approved_principal} approved: correct the loan there"
        )
    if not loan.multi_disburse:
        return Part(1, 1, loan.approved_principal, loan.approved_principal - _kept_back(loan))
    return _tranche(loan, number)


def has_next(loan: ApprovedLoan) -> bool:
    """Whether a tranche of an active loan is planned and not disbursed."""
    return loan.status_id == ACTIVE and any(tranche.disbursed_on is None for tranche in loan.tranches)


def is_closed(loan: ApprovedLoan) -> bool:
    """Whether a loan that was disbursed is neither approved nor active any more."""
    return loan.status_id not in {APPROVED, ACTIVE}


def is_over(loan: ApprovedLoan) -> bool:
    """Whether a tranche loan needs no further look: it is neither approved nor active, or nothing of its approval is left."""
    if is_closed(loan):
        return True
    out = sum((tranche.principal for tranche in loan.tranches if tranche.disbursed_on is not None), ZERO)
    return out >= loan.approved_principal


def _kept_back(loan: ApprovedLoan) -> Money:
    """What the lender charges at the disbursal.

    A charge added after the approval is in the fees and not in the net, which the server reckons anew only when it disburses
    (seen on a running server): the larger of the two is what the client will not get.
    """
    return max(loan.approved_principal - loan.net_disbursal, loan.fees_at_disbursement)


def _top_up(loan: ApprovedLoan) -> PartFound:
    """The whole principal less charges and what the older loan owes now, which is what the server takes off with the disbursal.

    The net that it told at the approval counts for nothing: on newer servers it is that of an ordinary loan.
    """
    if loan.multi_disburse:
        return NoPart(
            "a top-up in tranches: Mifos X does not tell which of them pays the older loan off: disburse it by hand", True
        )
    if loan.payoff is None or loan.older_loan_id is None:
        return NoPart("a top-up, and Mifos X does not tell which loan it pays off: disburse it by hand", top_up=True)
    if loan.payoff <= ZERO:
        return NoPart(
            f"a top-up, and the older loan (id {loan.older_loan_id} in Mifos X) owes nothing any more: Mifos X refuses such a "
            "disbursal; undo the approval there and make it an ordinary loan",
            top_up=True,
        )
    payout = loan.approved_principal - loan.fees_at_disbursement - loan.payoff
    if payout <= ZERO:
        return NoPart(
            f"a top-up of {loan.approved_principal} with {loan.fees_at_disbursement} of charges, and the older loan takes "
            f"{loan.payoff}: nothing is left for the client; disburse it in Mifos X by hand",
            top_up=True,
        )
    return Part(1, 1, loan.approved_principal, payout, older_loan_id=loan.older_loan_id, payoff=loan.payoff)


def _tranche(loan: ApprovedLoan, number: int) -> PartFound:
    if not loan.tranches:
        return NoPart("the loan is disbursed in tranches and none is planned: plan them in Mifos X, or disburse it by hand")
    if number == 1 and (kept_back := _kept_back(loan)):  # later the net is that of the last disbursal
        return NoPart(
            f"{kept_back} is kept back at disbursement and Mifos X does not tell from which tranche: disburse it by hand"
        )
    total = sum((tranche.principal for tranche in loan.tranches), ZERO)
    if total > loan.approved_principal:
        return NoPart(f"its tranches are {total} in all, more than the {loan.approved_principal} approved: correct the plan")
    marked = sum(1 for tranche in loan.tranches if tranche.disbursed_on is not None)
    if loan.disbursals != number - 1 or marked != number - 1:
        return WrongState(
            f"{max(loan.disbursals, marked)} tranches are disbursed in Mifos X where {number - 1} were expected before tranche "
            f"{number}: see who disbursed it"
        )
    following = next((tranche for tranche in loan.tranches if tranche.disbursed_on is None), None)
    if following is None:
        return NoPart(f"no tranche is planned after the {number - 1} that are disbursed")
    return Part(number, len(loan.tranches), following.principal, following.principal, following.expected_on)
