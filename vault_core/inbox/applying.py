"""Applying stored deliveries: set-wise, in one transaction with their effects, each exactly once.

A batch is locked, the ones already processed fall away, the service applies the rest, and the rows are marked in the same
transaction. A delivery that cannot be read is told apart before anything is done (`read_each`): it becomes an exception with its
cause, and the others are applied. If the batch fails in any other way that trying again would not cure, it is split in halves
until the one bad delivery stands alone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
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

T = TypeVar("T")
Effects = Mapping[UUID, str]
Apply = Callable[[AsyncConnection, Sequence[Delivery]], Awaitable[Effects]]


class BadDeliveries(PermanentError):
    """Some deliveries of a batch can never be applied, whatever the others are; `causes` says which, and why."""

    def __init__(self, causes: Mapping[UUID, PermanentError]) -> None:
        super().__init__(f"{len(causes)} deliveries cannot be applied")
        self.causes = causes


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
    except BadDeliveries as bad:
        for event_id, cause in bad.causes.items():
            await set_aside(runtime, event_id, cause)
        return await apply_deliveries(runtime, [event_id for event_id in ids if event_id not in bad.causes], apply)
    except (PermanentError, IntegrityError, DataError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        if len(ids) > 1:
            middle = len(ids) // 2
            return await apply_deliveries(runtime, ids[:middle], apply) + await apply_deliveries(runtime, ids[middle:], apply)
        await set_aside(runtime, ids[0], error)
        return 0


def read_each(deliveries: Sequence[Delivery], read: Callable[[Delivery], T]) -> list[T]:
    """What `read` makes of each, in order. Raises BadDeliveries naming all that it refuses (with a PermanentError).

    For the beginning of an `apply`, before it writes: one bad body then costs the others next to nothing.
    """
    made: list[T] = []
    bad: dict[UUID, PermanentError] = {}
    for delivery in deliveries:
        try:
            made.append(read(delivery))
        except PermanentError as error:
            bad[delivery.id] = error
    if bad:
        raise BadDeliveries(bad)
    return made


async def set_aside(runtime: Runtime, event_id: UUID, error: Exception) -> None:
    """Makes the delivery an exception with `error` as its cause, for a person to look at. A processed one stays as it is."""
    cause = f"{type(error).__name__}: {error}"[:2000]
    log.error("delivery set aside", event_id=str(event_id), cause=cause)

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_EXCEPTION, {"id": event_id, "cause": cause, "now": runtime.clock.now()})

    await in_transaction(runtime.engine, work)
