"""Outside systems that are away: a partner's queue to one waits as a whole, instead of using up the tries of its calls.

While a partner's row of outbox_outages stands, nothing of that queue is relayed or claimed (vault_core/outbox/calls.py); other
queues go on. One worker at a time asks, at growing intervals, whether the system is back. Then everything that is due goes on at
once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.outbox.retry_schedule import next_probe
from vault_core.runtime import Runtime

_MOST = 50


@dataclass(frozen=True, slots=True)
class Outage:
    """A system of a partner that was away when it was last asked. `probes` counts the present one."""

    partner_id: UUID
    topic: str
    since: datetime
    probes: int


_BEGIN = text(
    """
    INSERT INTO outbox_outages (partner_id, topic, since, cause, probe_at) VALUES (:partner_id, :topic, :now, :cause, :probe_at)
    ON CONFLICT (partner_id, topic) DO NOTHING
    """
)
_SINCE = text("SELECT since FROM outbox_outages WHERE partner_id = :partner_id AND topic = :topic")
_TAKE = text(
    """
    UPDATE outbox_outages SET probes = probes + 1, probe_at = :until
    FROM (SELECT partner_id, topic FROM outbox_outages WHERE topic = :topic AND probe_at <= :now
          ORDER BY probe_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE outbox_outages.partner_id = due.partner_id AND outbox_outages.topic = due.topic
    RETURNING outbox_outages.partner_id, outbox_outages.topic, since, probes
    """
)
_STILL = text(
    """
    UPDATE outbox_outages SET cause = :cause, probe_at = :probe_at
    WHERE partner_id = :partner_id AND topic = :topic AND probes = :probes
    RETURNING (SELECT count(*) FROM outbox w
               WHERE w.partner_id = :partner_id AND w.topic = :topic AND w.state = 'pending') AS waiting
    """
)
_END = text("DELETE FROM outbox_outages WHERE partner_id = :partner_id AND topic = :topic RETURNING partner_id")
# What was relayed before the outage and not claimed for it would else wait for its lease.
_OFFER = text(
    """
    UPDATE outbox SET relay_at = due_at
    WHERE partner_id = :partner_id AND topic = :topic AND state = 'pending' AND (lease_until IS NULL OR lease_until <= :now)
    """
)


async def away_since(connection: AsyncConnection, topic: str, partner_id: UUID) -> datetime | None:
    """Since when the partner's queue of `topic` waits for a system that is away; None while it goes on."""
    row = await connection.execute(_SINCE, {"partner_id": partner_id, "topic": topic})
    return row.scalar_one_or_none()


async def begin_outage(runtime: Runtime, topic: str, partner_id: UUID, cause: str) -> None:
    """Has the partner's queue of `topic` wait from now on. An outage that is known stays as it is."""
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> None:
        probe_at = now + next_probe(1, runtime.pace, runtime.chance)
        values = {"partner_id": partner_id, "topic": topic, "now": now, "cause": cause[:500], "probe_at": probe_at}
        await connection.execute(_BEGIN, values)

    await in_transaction(runtime.engine, work)


async def take_probes(runtime: Runtime, topic: str, longest: timedelta) -> list[Outage]:
    """The outages that are due to be looked at, each given to one caller, for the `longest` that a look may take."""
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> list[Outage]:
        rows = await connection.execute(_TAKE, {"topic": topic, "now": now, "until": now + longest, "most": _MOST})
        return [Outage(row.partner_id, row.topic, row.since, row.probes) for row in rows]

    return await in_transaction(runtime.engine, work)


async def put_off(connection: AsyncConnection, runtime: Runtime, outage: Outage, cause: str) -> int | None:
    """Notes, in the caller's transaction, that the system is still away; returns how many calls wait. None: it is back by now."""
    probe_at = runtime.clock.now() + next_probe(outage.probes + 1, runtime.pace, runtime.chance)
    values = {"partner_id": outage.partner_id, "topic": outage.topic, "probes": outage.probes}
    row = (await connection.execute(_STILL, {**values, "cause": cause[:500], "probe_at": probe_at})).one_or_none()
    return None if row is None else int(row.waiting)


async def end_outage(connection: AsyncConnection, runtime: Runtime, outage: Outage) -> None:
    """The system is back: its queue goes on as soon as the caller's transaction has committed."""
    values = {"partner_id": outage.partner_id, "topic": outage.topic}
    if (await connection.execute(_END, values)).one_or_none() is not None:
        await connection.execute(_OFFER, {**values, "now": runtime.clock.now()})
