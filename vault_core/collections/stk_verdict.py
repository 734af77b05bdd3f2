"""What is true of a prompt to pay, by all that has been said of it. Pure, and the same in whatever order it was said."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

SUCCESS = "0"
_WATCHED_FOR = timedelta(days=3)  # after the prompt, for money: Pull Transactions reach back two days


class StkState(StrEnum):
    """Where a prompt stands; as in the check of `stk_requests.state`."""

    PROMPTING = "prompting"  # written, and no answer yet
    PROMPTED = "prompted"  # M-Pesa took it
    REFUSED = "refused"  # M-Pesa did not: nobody was asked
    UNKNOWN = "unknown"  # it may or may not have been taken
    PAID = "paid"  # the money is booked under `receipt`
    DECLINED = "declined"
    EXPIRED = "expired"  # no end was told in time; never "not paid"


ReceiptFrom = Literal["callback", "payment"]


@dataclass(frozen=True, slots=True)
class Told:
    """All that has been said of a prompt. `receipt` is under which its money is booked, whoever told it."""

    state: StkState
    acknowledged: bool
    callback_code: str | None
    query_code: str | None
    receipt: str | None
    expires_at: datetime


def judge(told: Told, now: datetime) -> StkState:
    """The state by rank of evidence: money, the callback's refusal, the question's, time.

    A question has been seen to say failed for what was paid, so money and the callback stand above it, and a success that names
    no receipt ends nothing: its money is waited for (reference/daraja.md section 5).
    """
    if told.receipt is not None:
        return StkState.PAID
    if told.callback_code not in {None, SUCCESS}:
        return StkState.DECLINED
    if told.query_code not in {None, SUCCESS} and told.callback_code is None:
        return StkState.DECLINED
    begun = _begun(told)
    if begun is not StkState.REFUSED and now >= told.expires_at:
        return StkState.EXPIRED
    return begun


def said_paid(told: Told) -> bool:
    """Whether M-Pesa says that it is paid, and its money is not booked yet."""
    return told.receipt is None and SUCCESS in {told.callback_code, told.query_code}


def may_be_asked_about(told: Told, now: datetime) -> bool:
    """Whether a question can tell anything new."""
    return judge(told, now) is StkState.PROMPTED and told.acknowledged and told.callback_code is None and not said_paid(told)


def may_be_met_by_payment(told: Told, now: datetime) -> bool:
    """Whether a payment that looks like it may be taken for it: nothing better is coming.

    After a refusal of the callback a like payment is another one, made by hand; while a prompt runs the callback will tell.
    """
    state = judge(told, now)
    if state is StkState.DECLINED:
        return told.callback_code is None
    return state in {StkState.UNKNOWN, StkState.EXPIRED} or said_paid(told)


def next_look(told: Told, asked_at: datetime, now: datetime, spacing: timedelta) -> datetime | None:
    """When to look again: at the pace of the questions until it ends, then for its money, ever more seldom, for three days."""
    state = judge(told, now)
    if state in {StkState.PAID, StkState.REFUSED} or told.callback_code not in {None, SUCCESS}:
        return None
    if state in {StkState.PROMPTING, StkState.PROMPTED, StkState.UNKNOWN}:
        return min(now + spacing, told.expires_at)
    age = now - asked_at
    return None if age > _WATCHED_FOR else now + max(spacing, age)


def _begun(told: Told) -> StkState:
    if told.state in {StkState.PROMPTING, StkState.REFUSED}:
        return told.state
    return StkState.PROMPTED if told.acknowledged else StkState.UNKNOWN
