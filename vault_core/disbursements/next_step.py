"""What a payout waits for and what a person can do: the one rule behind lists, stories and `--stuck`. On values alone."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from vault_core.clock import NAIROBI, business_day
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.states import State
from vault_core.settings import Pace

_HOLD_A_MOMENT = timedelta(minutes=10)  # what takes care of itself within this is not stuck
_HOLD_AN_HOUR = timedelta(hours=1)

_BY_HAND = frozenset({HeldFor.GROUP_LOAN, HeldFor.MPESA_LIMIT, HeldFor.CURRENCY, HeldFor.TRANCHE_LOAN, HeldFor.TOP_UP})
_AT_REST = frozenset({HeldFor.CANCELLED, HeldFor.TRANCHE_NOT_DUE, HeldFor.NOT_DUE})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of one disbursement. `since`: when its present wait began, as far as the rows tell. `doubtful`: money may have moved."""

    state: State
    held_for: HeldFor | None
    reason: str | None
    partner: str
    since: datetime
    due_at: datetime
    doubtful: bool
    paid: bool  # an instruction is booked as paid
    paid_otherwise: bool  # with another amount, which nobody has settled: it is not posted
    for_good: bool  # the last refusal of M-Pesa would only be repeated as things stand
    said_paid_late: str | None  # the receipt of an instruction that failed and was then said to be paid
    proposed_by: str | None
    halted: bool  # all sending
    posted_from: date | None = None  # Mifos X takes no posting under the days before this one: holidays, days it does not work
    away_since: datetime | None = None  # the partner's Mifos X cannot be reached


@dataclass(frozen=True, slots=True)
class NextStep:
    """`words` say what happens next or what to do; `stuck` if it does not go on by itself, or has not for too long."""

    words: str
    stuck: bool


def next_step(now: datetime, of: Circumstances, pace: Pace) -> NextStep:
    """The next step of the disbursement."""
    if of.proposed_by is not None:
        return NextStep(f"{of.proposed_by} stated what became of it: another login must `approve` or `reject` it", stuck=True)
    if of.state is State.NEEDS_REVIEW:
        return NextStep(_for_a_person(of), stuck=True)
    if of.state is State.HELD:
        return _held(now, of)
    late = now - of.since
    match of.state:
        case State.DISBURSED:
            return NextStep("nothing: it is in Mifos X", stuck=False)
        case State.DETECTED | State.READY | State.FAILED | State.REFUSED:
            wait = now - max(of.due_at, of.since)
            if of.halted:
                return NextStep("all sending is halted: it goes after `vault halt --end`", stuck=wait > _HOLD_A_MOMENT)
            then = "at its time" if of.due_at > now else "within seconds"
            return NextStep(f"goes by itself {then}", stuck=wait > _HOLD_A_MOMENT)
        case State.SENDING:
            over = timedelta(seconds=pace.send_within + pace.http_timeout) + _HOLD_A_MOMENT
            return NextStep("being sent; if its process died, M-Pesa is asked about it", stuck=late > over)
        case State.ACCEPTED | State.UNKNOWN:
            asked_after = timedelta(seconds=pace.status_query_after)
            words = "its result is awaited, then M-Pesa is asked; after the last question it comes to a person"
            return NextStep(words, stuck=late > asked_after + _HOLD_A_MOMENT)
        case _:
            return _being_posted(now, of)


def _being_posted(now: datetime, of: Circumstances) -> NextStep:
    if of.posted_from is not None and of.posted_from > business_day(now):
        day = f"{of.posted_from:%d %b %Y}"
        return NextStep(f"paid; Mifos X takes no posting under the days before {day}: it is posted then", stuck=False)
    if of.away_since is not None:
        words = f"paid; Mifos X is away since {of.away_since.astimezone(NAIROBI):%H:%M}: it is posted when that is back"
    else:
        words = "being posted to Mifos X, tried again by itself; after the last try it comes to a person"
    return NextStep(words, stuck=now - of.since > _HOLD_A_MOMENT)


def _for_a_person(of: Circumstances) -> str:
    if of.said_paid_late is not None:
        return (
            f"M-Pesa said that it failed, then that it was paid ({of.said_paid_late}): look it up in the M-Pesa portal, then "
            f"`resolve --paid {of.said_paid_late}` or `resolve --not-paid`"
        )
    if of.paid_otherwise:
        return "paid, but not what was instructed: `why` says what to do and which `resolve` ends it, by two people"
    if of.paid:
        return "paid, not in Mifos X: the case says why; then `vault disbursements resume`. Posted by hand, it is seen in an hour"
    if of.doubtful:
        return "nobody knows whether it was paid: look it up in the M-Pesa portal, then `resolve --paid RECEIPT` or `--not-paid`"
    if of.for_good:
        return "not paid, and refused for good: mend the cause, then `release` it, or `cancel` it"
    return "not paid: `retry` it as it is, `release` it after something was mended, or `cancel` it"


def _held(now: datetime, of: Circumstances) -> NextStep:
    held_for, long = of.held_for, now - of.since > _HOLD_AN_HOUR
    if held_for is HeldFor.BY_PERSON:
        return NextStep("a person holds it: `release` lets it go on, `cancel` ends it", stuck=long)
    if held_for in _AT_REST:
        done = held_for is HeldFor.CANCELLED
        return NextStep("nothing: it is never paid unless `release`d" if done else "goes on its day", stuck=False)
    if held_for in _BY_HAND:
        return NextStep("we cannot pay it: disburse it by hand in Mifos X, then `cancel` it here", stuck=True)
    hints = {
        HeldFor.WALLET_SHORT: f"goes by itself when the wallet covers its charges: `vault wallet show {of.partner}`",
        HeldFor.FLOAT_SHORT: f"goes by itself when M-Pesa shows the float for it: buy float; `vault partner show {of.partner}`",
        HeldFor.PARTNER_HALTED: f"goes by itself after `vault partner resume {of.partner}`",
        HeldFor.SENDING_HALTED: "goes by itself after `vault halt --end`",
        HeldFor.MIFOS_AWAY: "goes by itself when the lender's Mifos X is back; case `mifos_away` says what keeps it",
        HeldFor.UNRESOLVED_PAYOUT: "goes by itself when the other payout is settled: `show` and `resolve` that one",
        HeldFor.PRODUCT_DISABLED: f"goes by itself after `vault partner enable {of.partner} ...`",
    }
    words = hints.get(held_for) if held_for is not None else None
    return NextStep(words or "looked at again by itself; once the cause is mended, `retry` looks at once", stuck=long)
