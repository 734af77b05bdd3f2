"""Time as an argument: aware, UTC inside, Africa/Nairobi outside (DESIGN.md section 10).

Services never ask the operating system or PostgreSQL for the time; they are handed a Clock, so that a day can be replayed.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

NAIROBI = ZoneInfo("Africa/Nairobi")


class Clock(Protocol):
    """Gives the present moment."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock, moved by `offset` (zero in production; the demo replays another day with it)."""

    offset: timedelta = timedelta(0)

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(UTC) + self.offset


def business_day(moment: datetime) -> date:
    """The calendar day in Nairobi that `moment` (aware) falls on."""
    return moment.astimezone(NAIROBI).date()


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of `day` in Nairobi and of the day after it, both in UTC: a half-open interval."""
    start = datetime.combine(day, time(0), NAIROBI)
    return start.astimezone(UTC), (start + timedelta(days=1)).astimezone(UTC)
