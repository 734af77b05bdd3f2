"""What a message of M-Pesa says about a payout: a B2C result, or the answer to a status question. No I/O, no decision yet."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from vault_core.clients.daraja_messages import MpesaResult
from vault_core.disbursements.result_classes import ResultClass, is_listed, meaning_of
from vault_core.money import Money

# The payout was never processed if the answer says so within this time; later its id may have left M-Pesa's index
# (reference/daraja.md section 6.1).
INDEX_HOLDS = timedelta(hours=48)

_ORIGINATOR_UNKNOWN = "2033"
_COMPLETED = frozenset({"completed"})
_DEAD = frozenset({"cancelled", "canceled", "declined", "expired", "failed"})


@dataclass(frozen=True, slots=True)
class SaysPaid:
    """The money moved: this much, under this receipt."""

    code: str
    text: str
    receipt: str
    amount: Money
    at: datetime | None = None
    utility_balance: Money | None = None
    working_balance: Money | None = None
    charges_paid_balance: Money | None = None
    receiver_name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SaysFailed:
    """The money did not move and this instruction is dead."""

    code: str
    text: str
    result_class: ResultClass


class Ask(StrEnum):
    """When to ask about the payout again."""

    SOON = "soon"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class SaysNothing:
    """No verdict. `alarm` if a person should look at the message itself; `ask` when to ask next, None: as planned."""

    code: str
    text: str
    ask: Ask | None = Ask.SOON
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class NeverArrived:
    """M-Pesa knows nothing under the instruction's id, and would if it had arrived."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class NoLongerKnown:
    """M-Pesa knows nothing under the instruction's id, but it is so old that this proves nothing: for a person."""

    code: str
    text: str


Evidence = SaysPaid | SaysFailed | SaysNothing | NeverArrived | NoLongerKnown


def read_result(result: MpesaResult) -> Evidence:
    """What a B2C result says. A result of type 1 only announces another one; TransactionID alone proves nothing."""
    if result.result_type == 1:
        return SaysNothing(result.code, result.text)
    meaning = meaning_of(result.code)
    if meaning.result_class is ResultClass.PAID:
        return _paid(result)
    if meaning.result_class is ResultClass.UNKNOWN:
        return SaysNothing(result.code, result.text, alarm=not is_listed(result.code))
    return SaysFailed(result.code, result.text, meaning.result_class)


@dataclass(frozen=True, slots=True)
class Asked:
    """The circumstances of a status question: when the payout was first sent, since when silence counts, when it was asked."""

    first_sent_at: datetime
    counts_from: datetime
    asked_at: datetime


def read_status_answer(result: MpesaResult, asked: Asked, *, settle: timedelta) -> Evidence:
    """What the answer to a status question says about the payout.

    "Nothing under that id" (2033) counts only if the question was asked at least `settle` after `counts_from`, and
    within 48 hours of its first sending. Any other code than 0 says nothing about the payout (25: our question was malformed).
    """
    if result.code == _ORIGINATOR_UNKNOWN:
        if asked.asked_at - asked.counts_from < settle:
            return SaysNothing(result.code, result.text, ask=Ask.LATER)
        if asked.asked_at - asked.first_sent_at < INDEX_HOLDS:
            return NeverArrived(result.code, result.text)
        return NoLongerKnown(result.code, result.text)
    if result.code != "0" or result.result_type == 1:
        return SaysNothing(result.code, result.text, ask=None)
    status = (result.transaction_status or "").strip()
    if status.lower() in _COMPLETED:
        return _paid(result)
    if status.lower() in _DEAD:
        return SaysFailed(status, f"M-Pesa's status of the payout is {status}", ResultClass.RETRY_LATER)
    return SaysNothing(result.code, f"M-Pesa's status of the payout is {status or 'missing'}", ask=None)


def _paid(result: MpesaResult) -> SaysPaid | SaysNothing:
    if not result.receipt or result.amount is None:
        missing = "receipt" if not result.receipt else "amount"
        return SaysNothing(result.code, f"said to be paid, without the {missing}", alarm=True)
    return SaysPaid(
        code=result.code,
        text=result.text,
        receipt=result.receipt,
        amount=result.amount,
        at=result.completed_at,
        utility_balance=result.utility_balance,
        working_balance=result.working_balance,
        charges_paid_balance=result.charges_paid_balance,
        receiver_name=result.receiver_name,
    )
