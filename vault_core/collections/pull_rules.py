"""Which windows are pulled, and what the times in the rows mean: rules on values alone (reference/daraja.md section 6.4)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vault_core.clients.daraja_pull import REACHES_BACK, PulledPayment

# The two readings of a time that may be UTC or East Africa Time are three hours apart: in a shorter window only one can be meant.
LONGEST_WINDOW = timedelta(hours=2, minutes=30)
# M-Pesa refuses or forgets what is older, by its own clock.
_REACH = REACHES_BACK - timedelta(minutes=10)
_EDGE = timedelta(minutes=1)  # clocks differ


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, its end not in it."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep reads, in order, from `start` on.

    `lost`: what is too old to be pulled and was never read; only a statement tells of it.
    """

    start: datetime
    windows: tuple[Window, ...]
    lost: Window | None


def plan_sweep(begins_at: datetime, swept_to: datetime, again_from: datetime | None, now: datetime, again: timedelta) -> Plan:
    """Everything since `swept_to`, `again` before it (rows may come to light late), from `again_from` if that is earlier.

    Never what happened before `begins_at`, and never farther back than M-Pesa tells.
    """
    oldest = now - _REACH
    start = max(min(swept_to - again, again_from or swept_to), begins_at, oldest)
    lost = Window(swept_to, oldest) if swept_to < oldest else None
    windows = []
    begins = start
    while begins < now:
        end = min(begins + LONGEST_WINDOW, now)
        windows.append(Window(begins, end))
        begins = end
    return Plan(start, tuple(windows), lost)


def moments_of(payments: Sequence[PulledPayment], known: Mapping[str, datetime], window: Window) -> list[datetime]:
    """When each of the rows of one answer happened.

    Where receipts are `known` from another feed, their times show which reading of this answer's times is right. Otherwise it is
    the one that falls into the window that was asked for.
    """
    votes = Counter(
        min(range(len(one.moments)), key=lambda reading: abs(one.moments[reading] - known[one.receipt]))
        for one in payments
        if one.receipt in known and len(one.moments) > 1
    )
    if votes:
        [(reading, _)] = votes.most_common(1)
        return [one.moments[min(reading, len(one.moments) - 1)] for one in payments]
    return [
        next((at for at in one.moments if window.start - _EDGE <= at <= window.end + _EDGE), one.moments[0]) for one in payments
    ]


def is_unhealthy(missed: int, others: int, most: int, share: float) -> bool:
    """Whether so many of a window are missed that it is no accident: `most` of them, or more than this share of all."""
    return missed > 0 and (missed >= most or missed > share * (missed + others))
