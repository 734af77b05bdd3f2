"""Finding what is stored and still unprocessed, to be published again: how every outage on the way heals by itself."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.errors import SealBroken
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.inbox.envelope import encode_envelope
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_LONGEST_WAIT_SECONDS = 3600.0
# A row under way in a worker is locked and skipped. The waits double, so that a backlog is not multiplied.
_TAKE = text(
    """
    UPDATE inbound_events
    SET sweeps = sweeps + 1,
        next_sweep_at = CAST(:now AS timestamptz)
                        + make_interval(secs => least(:longest, :first * power(2.0, least(sweeps + 1, 30))))
    FROM (SELECT id FROM inbound_events WHERE state = 'stored' AND next_sweep_at <= :now
          ORDER BY next_sweep_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE inbound_events.id = due.id
    RETURNING inbound_events.id, partner_id, purpose, topic, received_at, path_reference, body_sealed
    """
)


@dataclass(frozen=True, slots=True)
class Republication:
    """One Kafka message to send again. `value` holds the body in clear: keep it out of logs."""

    event_id: UUID
    topic: str
    key: str
    value: bytes

    def __repr__(self) -> str:
        return f"Republication({self.event_id}, {self.topic})"


async def take_unprocessed(runtime: Runtime, most: int = 500) -> list[Republication]:
    """The deliveries that are due to be published again, at most `most`; each is due later again, after twice the wait.

    A message lost after this costs one wait, nothing else.
    """
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> list[Republication]:
        rows = await connection.execute(
            _TAKE,
            {"now": now, "longest": _LONGEST_WAIT_SECONDS, "first": runtime.pace.inbox_sweep_after, "most": most},
        )
        return [
            Republication(
                event_id=row.id,
                topic=row.topic,
                key=row.path_reference or row.id.hex,
                value=encode_envelope(
                    row.id, row.partner_id, row.purpose, row.received_at, _body(runtime, row.id, row.body_sealed)
                ),
            )
            for row in rows
        ]

    return await in_transaction(runtime.engine, work)


def _body(runtime: Runtime, event_id: UUID, sealed: bytes) -> bytes:
    try:
        return runtime.sealer.open(sealed, bound_to=sealed_body_binding(event_id))
    except SealBroken as error:
        # Published without its body: the handler meets the same seal and sets the delivery aside with this cause.
        log.warning("a stored delivery does not open", event_id=str(event_id), cause=str(error))
        return b""
