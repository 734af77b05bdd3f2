"""Days and times as people write them on the command line: a Nairobi day, or an ISO instant. And how they are shown."""

import re
from datetime import UTC, date, datetime
from typing import Literal

from vault_core.clock import NAIROBI, business_day, day_bounds
from vault_core.errors import InvalidInput

_DAY = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}")  # of this millennium: any other is a slip


def read_day(text: str) -> date:
    """A day, as 2026-11-20. Raises InvalidInput."""
    try:
        return _day(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no day: write it as 2026-11-20") from error


def read_instant(text: str, *, day: Literal["start", "end"]) -> datetime:
    """The instant, in UTC. A day alone stands for its start or its end in Nairobi; a time without an offset is Nairobi's.

    Raises InvalidInput.
    """
    try:
        if "T" not in text:
            return day_bounds(_day(text))[0 if day == "start" else 1]
        _day(text.partition("T")[0])
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is neither a day nor a time: write 2026-11-20, or 2026-11-20T14:30 (Nairobi's unless it has an offset)"
        ) from error
    return (instant if instant.tzinfo else instant.replace(tzinfo=NAIROBI)).astimezone(UTC)


def read_span(start: str | None, end: str | None, now: datetime) -> tuple[datetime, datetime]:
    """The span [start, end): a day at its end is included. By default the Nairobi month of `now` up to `now`."""
    low = day_bounds(business_day(now).replace(day=1))[0] if start is None else read_instant(start, day="start")
    return low, now if end is None else read_instant(end, day="end")


def moment(at: datetime) -> str:
    """The moment in Nairobi, to the second."""
    return f"{at.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}"


def iso(at: datetime | None) -> str | None:
    """The moment as --json prints it: ISO with the offset of Nairobi."""
    return None if at is None else at.astimezone(NAIROBI).isoformat()


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):  # other ISO forms (20261120, 2026-W47) read like something else
        raise ValueError(text)
    return date.fromisoformat(text)


def shown(at: datetime) -> str:
    """The moment in Nairobi, to the minute."""
    return f"{at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
