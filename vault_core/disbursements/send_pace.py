"""How fast B2C instructions of one partner go out, over all processes: slots in time, farther apart after M-Pesa says "slower".

M-Pesa publishes no rate, only spike arrests and quotas (reference/daraja.md section 8). So the gap between two sends starts at a
setting, doubles when an answer says that we are too fast, and shrinks back step by step while none does.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.runtime import Runtime
from vault_core.settings import Pace

WIDEST = timedelta(seconds=5)
_AT_ONCE = timedelta(seconds=1)  # one spike is answered to all that were under way: it slows down once
_EASES_EVERY = timedelta(seconds=10)
_AHEAD = timedelta(milliseconds=200)  # slots that one process takes at a time: it reacts as late as this
_MOST_SLOTS = 50

_READ = text("SELECT gap_us, next_at, changed_at FROM send_paces WHERE partner_id = :partner_id FOR UPDATE")
_FIRST = text(
    """
    INSERT INTO send_paces (partner_id, gap_us, next_at, changed_at) VALUES (:partner_id, :gap_us, :now, :now)
    ON CONFLICT DO NOTHING
    """
)
_WRITE = text(
    """
    UPDATE send_paces SET gap_us = :gap_us, next_at = :next_at, changed_at = :changed_at,
           slowed_at = coalesce(CAST(:slowed_at AS timestamptz), slowed_at)
    WHERE partner_id = :partner_id
    """
)


@dataclass(frozen=True, slots=True)
class Gap:
    """The time between two sends, and when it was last changed."""

    length: timedelta
    changed_at: datetime


def least_gap(pace: Pace) -> timedelta:
    """The gap of a partner that M-Pesa does not slow down."""
    return timedelta(seconds=1 / pace.b2c_per_second)


def widened(gap: Gap, now: datetime, *, first: timedelta) -> Gap:
    """After M-Pesa asked to slow down: doubled, at most WIDEST, and once for all answers of a second. `first`: the least gap."""
    if gap.length > first and now - gap.changed_at < _AT_ONCE:
        return gap
    return Gap(min(gap.length * 2, WIDEST), now)


def eased(gap: Gap, now: datetime, *, least: timedelta) -> Gap:
    """A fifth shorter for each ten seconds since the last change, down to `least`."""
    steps = (now - gap.changed_at) // _EASES_EVERY
    if steps < 1 or gap.length <= least:
        return Gap(max(gap.length, least), gap.changed_at)
    shorter = gap.length
    for _ in range(min(steps, 100)):
        shorter = shorter * 4 // 5
    return Gap(max(shorter, least), gap.changed_at + steps * _EASES_EVERY)


class SendPace:
    """The slots of one sender of a partner: `turn` returns when it is this send's time. Slots are shared with other processes."""

    def __init__(self, runtime: Runtime, partner_id: UUID) -> None:
        self._runtime = runtime
        self._partner_id = partner_id
        self._slots: deque[datetime] = deque()
        self._lock = asyncio.Lock()

    async def turn(self) -> None:
        """Waits for the next free slot. One that a process took and did not use is lost, and delays the others by itself only."""
        async with self._lock:
            if not self._slots:
                self._slots.extend(await self._take())
            slot = self._slots.popleft()
        await asyncio.sleep(max((slot - self._runtime.clock.now()).total_seconds(), 0.0))

    async def _take(self) -> list[datetime]:
        runtime, least = self._runtime, least_gap(self._runtime.pace)

        async def work(connection: AsyncConnection) -> list[datetime]:
            now = runtime.clock.now()
            row = await _locked(connection, self._partner_id, least, now)
            gap = eased(Gap(timedelta(microseconds=row.gap_us), row.changed_at), now, least=least)
            slots = max(1, min(_MOST_SLOTS, _AHEAD // gap.length))
            start = max(row.next_at, now)
            await _keep(connection, self._partner_id, gap, start + slots * gap.length)
            return [start + place * gap.length for place in range(slots)]

        return await in_transaction(runtime.engine, work)


async def slow_down(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> None:
    """Widens the partner's gap, in the caller's transaction, because M-Pesa answered that we are too fast."""
    now, least = runtime.clock.now(), least_gap(runtime.pace)
    row = await _locked(connection, partner_id, least, now)
    gap = widened(Gap(max(timedelta(microseconds=row.gap_us), least), row.changed_at), now, first=least)
    await _keep(connection, partner_id, gap, max(row.next_at, now + gap.length), slowed_at=now)


async def _locked(connection: AsyncConnection, partner_id: UUID, least: timedelta, now: datetime) -> Row[Any]:
    await connection.execute(_FIRST, {"partner_id": partner_id, "gap_us": _microseconds(least), "now": now})
    return (await connection.execute(_READ, {"partner_id": partner_id})).one()


async def _keep(
    connection: AsyncConnection, partner_id: UUID, gap: Gap, next_at: datetime, *, slowed_at: datetime | None = None
) -> None:
    await connection.execute(
        _WRITE,
        {
            "partner_id": partner_id,
            "gap_us": _microseconds(gap.length),
            "next_at": next_at,
            "changed_at": gap.changed_at,
            "slowed_at": slowed_at,
        },
    )


def _microseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
