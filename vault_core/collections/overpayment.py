"""More than is owed on a loan: what each partner wants done with it. Decisions on values alone (docs/partners.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vault_core.clients.mifos_values import ApprovedLoan, FoundAccount
from vault_core.money import ZERO, Money

_ACTIVE, _PAID_OFF, _OVERPAID = 300, 600, 700


class Overpayment(StrEnum):
    """A partner's policy."""

    POST_ALL = "post_all"  # to the loan, which Mifos X then shows as overpaid
    TO_SAVINGS = "to_savings"  # what is not owed goes to the client's one open savings account
    HOLD = "hold"  # in suspense, for a person


@dataclass(frozen=True, slots=True)
class Fits:
    """All of it is posted as it was intended. `perhaps_there`: its receipt stands on the loan, entered by hand."""

    perhaps_there: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """`owed` (perhaps nothing) is repaid, the `rest` deposited."""

    owed: Money
    rest: Money
    savings: FoundAccount


@dataclass(frozen=True, slots=True)
class Held:
    """It goes to suspense, and why."""

    reason: str


Verdict = Fits | Shared | Held


def owed_on(loan: ApprovedLoan) -> Money | None:
    """What is owed on the loan; nothing on one that is paid off or overpaid, None where Mifos X takes no repayment at all."""
    if loan.status_id == _ACTIVE:
        return loan.total_outstanding
    return ZERO if loan.status_id in (_PAID_OFF, _OVERPAID) else None


def is_too_much(amount: Money, loan: ApprovedLoan) -> bool:
    """Whether `amount` is more than is owed on a loan that takes repayments."""
    owed = owed_on(loan)
    return owed is not None and amount > owed


def judge_overpayment(amount: Money, loan: ApprovedLoan, policy: Overpayment, savings: Sequence[FoundAccount]) -> Verdict:
    """What becomes of a payment of `amount` to `loan` as it stands now. `savings`: its client's savings accounts.

    A loan that takes no repayment fits: Mifos X itself refuses that posting, with its own words.
    """
    owed = owed_on(loan)
    if policy is Overpayment.POST_ALL or owed is None or amount <= owed:
        return Fits()
    what = f"{amount} is more than the {owed} owed on loan {loan.account_no}"
    if policy is Overpayment.HOLD:
        return Held(f"{what}, and the partner's policy is to hold what is too much")
    open_ones = [account for account in savings if account.active and account.currency == "KES"]
    if len(open_ones) != 1:
        many = "no open savings account" if not open_ones else f"{len(open_ones)} open savings accounts"
        return Held(f"{what}, and its client has {many} to take the rest")
    return Shared(owed, amount - owed, open_ones[0])
