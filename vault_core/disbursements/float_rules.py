"""What the utility account of a short code can still pay: rules on values alone.

Only M-Pesa's clock orders reports and payments (it counts seconds), and only ours orders what reached us; the two are never
compared. M-Pesa's own charges stand on an account of their own and do not draw on the float.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from vault_core.money import Money
from vault_core.settings import FirstServed

# A report from farther ahead of our clock is no report: it would outlive all true ones.
MOST_AHEAD = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class FloatReport:
    """M-Pesa's word on the utility balance at `at`, its own clock; we had it at `received_at`, by ours."""

    at: datetime
    utility: Money
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Float:
    """A partner's float. `drawing`: instructions that may still draw; `later`: paid, but not yet in the report.

    `refused_at`: when M-Pesa last refused a payout because the float is short.
    """

    report: FloatReport | None
    drawing: Money
    later: Money
    refused_at: datetime | None
    probe_id: UUID | None = None

    @property
    def expected(self) -> Money | None:
        """What is left when all that was sent is paid; None while M-Pesa has told no balance. What is unknown counts as drawn."""
        return None if self.report is None else self.report.utility - self.drawing - self.later

    @property
    def is_paused(self) -> bool:
        """Whether M-Pesa refused a payout for float and has told no balance since."""
        return self.refused_at is not None and (self.report is None or self.report.received_at <= self.refused_at)


class Waiting(Protocol):
    """A payout that waits its turn."""

    @property
    def id(self) -> UUID:
        """Of the disbursement."""

    @property
    def payout(self) -> Money:
        """What it draws."""

    @property
    def detected_at(self) -> datetime:
        """When the loan was found."""

    @property
    def loan_id(self) -> int:
        """In Mifos X."""


_T = TypeVar("_T", bound=Waiting)


def is_credible(at: datetime, received_at: datetime) -> bool:
    """Whether a report that claims to be of `at` can be."""
    return at <= received_at + MOST_AHEAD


def newest(reports: Iterable[FloatReport]) -> FloatReport | None:
    """The report that counts. Of one second the lowest: as payouts only lower the balance it is the last, or says too little."""
    return max(reports, key=lambda report: (report.at, -report.utility.cents), default=None)


def is_reflected(paid_at: datetime, *, told_balance: bool, report: FloatReport) -> bool:
    """Whether the report is after a payment at `paid_at`. In one second only a payment that told a balance itself is certain."""
    return paid_at < report.at or (paid_at == report.at and told_balance)


def in_turn(waiting: Iterable[_T], first: FirstServed) -> list[_T]:
    """Those that wait, in the order in which they are served."""
    sign = {FirstServed.OLDEST: 0, FirstServed.LARGEST: -1, FirstServed.SMALLEST: 1}[first]
    return sorted(waiting, key=lambda one: (sign * one.payout.cents, one.detected_at, one.loan_id))


def covered(waiting: Sequence[_T], room: Money | None) -> tuple[list[_T], Money | None]:
    """Those that `room` covers one after another, and what is left of it. One that is too large does not stop smaller ones.

    No known room: all of them, for only M-Pesa's word can tell.
    """
    if room is None:
        return list(waiting), None
    served = []
    for one in waiting:
        if one.payout <= room:
            room -= one.payout
            served.append(one)
    return served, room
