"""Partitions cut ahead of time: days of deliveries, months of the ledger, as ranges of the UUIDv7 that key the rows.

`vault up` cuts them as it migrates, and every stream worker looks each hour, so that an installation that is never restarted does
not run out. A row that no partition covers is kept in the default one: a late cut loses nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.identifiers import lowest_id_at

DAYS_AHEAD = 14
MONTHS_AHEAD = 3
_DAILY = ("inbound_events",)
_MONTHLY = ("ledger_transactions", "ledger_entries")

CUT = text("SELECT cut_partition(:parent, :name, :low, :high)")


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and its half-open range of ids."""

    parent: str
    name: str
    low: UUID
    high: UUID

    def arguments(self) -> dict[str, object]:
        """What CUT takes."""
        return {"parent": self.parent, "name": self.name, "low": self.low, "high": self.high}


def partitions_around(now: datetime) -> list[Partition]:
    """Those that should be there at `now` (aware): from the day and month before it to two weeks and three months ahead."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]
    months = [_month(today, offset) for offset in range(-1, MONTHS_AHEAD + 1)]
    return [
        Partition(parent, f"{parent}_{start.strftime(form)}", lowest_id_at(start), lowest_id_at(end))
        for parents, bounds, form in ((_DAILY, days, "%Y%m%d"), (_MONTHLY, months, "%Y%m"))
        for parent in parents
        for start, end in pairwise(bounds)
    ]


async def cut_ahead(connection: AsyncConnection, *, now: datetime) -> int:
    """Cuts the partitions that are missing around `now`, and returns how many. Idempotent; may run in any process."""
    return sum([(await connection.execute(CUT, partition.arguments())).scalar_one() for partition in partitions_around(now)])


def _month(day: datetime, offset: int) -> datetime:
    years, month = divmod(day.month - 1 + offset, 12)
    return day.replace(year=day.year + years, month=month + 1, day=1)
