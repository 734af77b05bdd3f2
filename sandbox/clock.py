"""The sandbox's time: the wall clock, or the wall clock moved so that a given day is today."""

from datetime import UTC, date, datetime, timedelta, timezone

EAT = timezone(timedelta(hours=3), "EAT")  # East Africa Time has no summer time


class SandboxClock:
    """Time for all three services; Kenya's day is what counts as today."""

    def __init__(self) -> None:
        self.shift = timedelta()
        self.pinned: datetime | None = None  # stands still there while a journal is done again

    def now(self) -> datetime:
        """The moment, in UTC."""
        return self.pinned or datetime.now(UTC) + self.shift

    def today(self) -> date:
        """The day in Kenya."""
        return self.now().astimezone(EAT).date()

    def move_to(self, moment: datetime) -> None:
        """Makes `moment` (aware) the present; time runs on from there."""
        self.shift = moment - datetime.now(UTC)


def eat(moment: datetime, pattern: str) -> str:
    """`moment` as M-Pesa writes it: East Africa Time, without a zone."""
    return moment.astimezone(EAT).strftime(pattern)
