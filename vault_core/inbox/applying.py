"""Applying stored deliveries: set-wise, in one transaction with their effects, each exactly once.

A batch is locked, the ones already processed fall away, the service applies the rest, and the rows are marked in the same
transaction. If the batch fails for a reason that trying again would not cure, it is split in halves until the one bad
delivery stands alone; that one becomes an exception with its cause, and the others are applied.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.errors import PermanentError
from vault_core.inbox.delivery import Delivery
from vault_core.inbox.reading import DELIVERY_COLUMNS, delivery_of
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

Effects = Mapping[UUID, str]
Apply = Callable[[AsyncConnection, Sequence[Delivery]], Awaitable[Effects]]

_CLAIM = text(
    f"SELECT {DELIVERY_COLUMNS} FROM inbound_events WHERE id = ANY(:ids) AND state <> 'processed' ORDER BY id FOR UPDATE"  # noqa: S608
)
_DONE = text(
    """
    UPDATE inbound_events SET state = 'processed', effect = done.effect, cause = NULL, processed_at = :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:effects AS text[])) AS done(id, effect) WHERE inbound_events.id = done.id
    """
)
_EXCEPTION = text(
    "UPDATE inbound_events SET state = 'exception', cause = :cause, processed_at = :now WHERE id = :id AND state <> 'processed'"
)


async def apply_deliveries(runtime: Runtime, ids: Sequence[UUID], apply: Apply) -> int:
    """Applies the stored deliveries `ids` with `apply` and returns how many were applied (not: already processed, exceptions).

    `apply` gets the open connection and the deliveries in order of arrival; it writes all effects on that connection and
    returns for each delivery id a few words on what it did. It may be called again for the same deliveries after a
    rollback, so it must have no effect elsewhere. Transient errors (database gone, DatabaseBusy) propagate: the caller
    tries again or leaves it to the sweep.
    """
    if not ids:
        return 0

    async def work(connection: AsyncConnection) -> int:
        rows = (await connection.execute(_CLAIM, {"ids": list(ids)})).all()
        deliveries = [delivery_of(row, runtime.sealer) for row in rows]
        if not deliveries:
            return 0
        effects = await apply(connection, deliveries)
        await connection.execute(
            _DONE,
            {
                "ids": [delivery.id for delivery in deliveries],
                "effects": [effects[delivery.id] for delivery in deliveries],
                "now": runtime.clock.now(),
            },
        )
        return len(deliveries)

    try:
        return await in_transaction(runtime.engine, work)
    except (PermanentError, IntegrityError, DataError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        if len(ids) > 1:
            middle = len(ids) // 2
            return await apply_deliveries(runtime, ids[:middle], apply) + await apply_deliveries(runtime, ids[middle:], apply)
        await set_aside(runtime, ids[0], error)
        return 0


async def set_aside(runtime: Runtime, event_id: UUID, error: Exception) -> None:
    """Makes the delivery an exception with `error` as its cause, for a person to look at. A processed one stays as it is."""
    cause = f"{type(error).__name__}: {error}"[:2000]
    log.error("delivery set aside", event_id=str(event_id), cause=cause)

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_EXCEPTION, {"id": event_id, "cause": cause, "now": runtime.clock.now()})

    await in_transaction(runtime.engine, work)
