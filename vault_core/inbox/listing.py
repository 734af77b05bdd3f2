"""Looking at stored deliveries, and letting one be applied again. What is shown holds no body; opening a body is audited."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, NotFound
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.runtime import Runtime

STATES = ("stored", "processed", "exception")


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One stored delivery as it may be shown."""

    id: UUID
    partner: str | None  # its short name; None if the partner is gone
    purpose: str
    topic: str
    received_at: datetime
    source_ip: str
    content_type: str
    reference: str | None
    headers: dict[str, str]
    body_bytes: int
    parsed: bool
    state: str
    cause: str | None
    effect: str | None
    processed_at: datetime | None
    sweeps: int
    next_sweep_at: datetime


_COLUMNS = """
    SELECT e.id, p.name AS partner, e.purpose, e.topic, e.received_at, e.source_ip, e.content_type, e.path_reference, e.headers,
           e.body_bytes, e.parsed, e.state, e.cause, e.effect, e.processed_at, e.sweeps, e.next_sweep_at
    FROM inbound_events AS e LEFT JOIN partners AS p ON p.id = e.partner_id
"""
_LIST = text(
    _COLUMNS
    + """
    WHERE (CAST(:state AS text) IS NULL OR e.state = :state)
      AND (CAST(:purpose AS text) IS NULL OR e.purpose = :purpose)
      AND (CAST(:partner AS text) IS NULL OR p.name = :partner)
      AND (CAST(:before AS uuid) IS NULL OR e.id < :before)
    ORDER BY e.id DESC LIMIT :most
    """
)
_SHOW = text(_COLUMNS + " WHERE e.id = :id")
_BODY = text("SELECT partner_id, body_sealed FROM inbound_events WHERE id = :id")
_LOCK = text("SELECT id, partner_id, state, cause FROM inbound_events WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_REPLAY = text(
    "UPDATE inbound_events SET state = 'stored', processed_at = NULL, sweeps = 0, next_sweep_at = :now WHERE id = ANY(:ids)"
)


async def list_deliveries(
    connection: AsyncConnection,
    *,
    state: str | None = None,
    purpose: str | None = None,
    partner: str | None = None,
    before: UUID | None = None,
    most: int = 50,
) -> list[StoredDelivery]:
    """The newest deliveries first, at most `most`, of one state, purpose or partner where given, older than `before`."""
    rows = await connection.execute(
        _LIST, {"state": state, "purpose": purpose, "partner": partner, "before": before, "most": most}
    )
    return [_shown(row) for row in rows]


async def show_delivery(connection: AsyncConnection, event_id: UUID) -> StoredDelivery:
    """One delivery. Raises NotFound."""
    row = (await connection.execute(_SHOW, {"id": event_id})).one_or_none()
    if row is None:
        raise NotFound(f"no delivery {event_id} is stored: `vault inbox list` shows the newest")
    return _shown(row)


async def open_body(runtime: Runtime, event_id: UUID, *, actor: str, reason: str) -> bytes:
    """The exact bytes of a delivery, in clear: they may hold phones and names, so that `actor` saw them is audited.

    Raises NotFound, and SealBroken if the master key is another.
    """

    async def work(connection: AsyncConnection) -> bytes:
        row = (await connection.execute(_BODY, {"id": event_id})).one_or_none()
        if row is None:
            raise NotFound(f"no delivery {event_id} is stored")
        body = runtime.sealer.open(row.body_sealed, bound_to=sealed_body_binding(event_id))
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="inbox.body_shown",
            subject=f"delivery {event_id}",
            partner_id=row.partner_id,
            reason=reason,
        )
        return body

    return await in_transaction(runtime.engine, work)


async def replay_deliveries(runtime: Runtime, ids: Sequence[UUID], *, actor: str, reason: str) -> int:
    """Makes exceptions, and deliveries that wait, due to be published at once; returns how many. Audited, one entry each.

    All or nothing: raises NotFound for an unknown id and Conflict for a processed delivery, whose effects stand already.
    """
    wanted = sorted(set(ids))

    async def work(connection: AsyncConnection) -> int:
        rows = {row.id: row for row in await connection.execute(_LOCK, {"ids": wanted})}
        for event_id in wanted:
            if event_id not in rows:
                raise NotFound(f"no delivery {event_id} is stored")
            if rows[event_id].state == "processed":
                raise Conflict(f"delivery {event_id} is processed: applying it again could not change anything")
        await connection.execute(_REPLAY, {"ids": wanted, "now": runtime.clock.now()})
        for row in rows.values():
            await record_act(
                connection,
                runtime.clock,
                runtime.new_id,
                actor=actor,
                act="inbox.replayed",
                subject=f"delivery {row.id}",
                partner_id=row.partner_id,
                before={"state": row.state, "cause": row.cause},
                after={"state": "stored"},
                reason=reason,
            )
        return len(wanted)

    return await in_transaction(runtime.engine, work)


def _shown(row: Row[tuple[object, ...]]) -> StoredDelivery:
    values = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    return StoredDelivery(reference=values.pop("path_reference"), **values)
