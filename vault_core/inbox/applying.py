"""Applying stored deliveries: set-wise, in one transaction with their effects, each exactly once.

A batch is locked, the ones already processed fall away, the service applies the rest, and the rows are marked in the same
transaction. A delivery that cannot be read is told apart before anything is done (`read_each`), and becomes an exception with its
cause beside the others that are applied: one bad body costs them nothing. If the batch fails in any other way that trying again
would not cure, it is split in halves until the one bad delivery stands alone.
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
Effects = Mapping[UUID, str | PermanentError]  # of each delivery what it did, or why it can never do anything
Apply = Callable[[AsyncConnection, Sequence[Delivery]], Awaitable[Effects]]

_CLAIM = text(
    f"SELECT {DELIVERY_COLUMNS} FROM inbound_events WHERE id = ANY(:ids) AND state <> 'processed' ORDER BY id FOR UPDATE"  # noqa: S608
)
_DONE = text(
    """
    UPDATE inbound_events SET state = 'processed', effect = done.effect, cause = NULL, processed_at = :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:effects AS text[])) AS done(id, effect)
    WHERE inbound_events.id = done.id AND inbound_events.id = ANY(:ids)
    """
)
_EXCEPTIONS = text(
    """
    UPDATE inbound_events SET state = 'exception', cause = bad.cause, processed_at = :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:causes AS text[])) AS bad(id, cause)
    WHERE inbound_events.id = bad.id AND inbound_events.id = ANY(:ids) AND state <> 'processed'
    """
)


async def apply_deliveries(runtime: Runtime, ids: Sequence[UUID], apply: Apply) -> int:
    """Applies the stored deliveries `ids` with `apply` and returns how many were applied (not: already processed, exceptions).

    `apply` gets the open connection and the deliveries in order of arrival; it writes all effects on that connection and
    returns for each delivery id a few words on what it did, or the error for which it can never be applied. It may be called
    again for the same deliveries after a rollback, so it must have no effect elsewhere. Transient errors (database gone,
    DatabaseBusy) propagate: the caller tries again or leaves it to the sweep.
    """
    if not ids:
        return 0

    async def work(connection: AsyncConnection) -> Effects:
        rows = (await connection.execute(_CLAIM, {"ids": list(ids)})).all()
        deliveries = [delivery_of(row, runtime.sealer) for row in rows]
        effects = await apply(connection, deliveries) if deliveries else {}
        done = {event_id: effect for event_id, effect in effects.items() if isinstance(effect, str)}
        if done:
            now = runtime.clock.now()
            await connection.execute(_DONE, {"ids": list(done), "effects": list(done.values()), "now": now})
        await _set_aside(connection, runtime, _bad(effects))
        return effects

    try:
        effects = await in_transaction(runtime.engine, work)
    except (PermanentError, IntegrityError, DataError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        if len(ids) > 1:
            middle = len(ids) // 2
            return await apply_deliveries(runtime, ids[:middle], apply) + await apply_deliveries(runtime, ids[middle:], apply)
        await set_aside(runtime, ids[0], error)
        return 0
    bad = _bad(effects)
    for event_id, cause in bad.items():
        _tell(event_id, cause)
    return len(effects) - len(bad)


def read_each(deliveries: Sequence[Delivery], read: Callable[[Delivery], T]) -> tuple[dict[UUID, T], dict[UUID, PermanentError]]:
    """What `read` makes of each, by its id and in order, and why it refuses the others (with a PermanentError).

    For the beginning of an `apply`, before it writes: the second are the effects of those.
    """
    made: dict[UUID, T] = {}
    bad: dict[UUID, PermanentError] = {}
    for delivery in deliveries:
        try:
            made[delivery.id] = read(delivery)
        except PermanentError as error:
            bad[delivery.id] = error
    return made, bad


async def set_aside(runtime: Runtime, event_id: UUID, error: Exception) -> None:
    """Makes the delivery an exception with `error` as its cause, for a person to look at. A processed one stays as it is."""
    _tell(event_id, error)
    await in_transaction(runtime.engine, lambda connection: _set_aside(connection, runtime, {event_id: error}))


async def _set_aside(connection: AsyncConnection, runtime: Runtime, bad: Mapping[UUID, Exception]) -> None:
    if bad:
        causes = [_cause(error) for error in bad.values()]
        await connection.execute(_EXCEPTIONS, {"ids": list(bad), "causes": causes, "now": runtime.clock.now()})


def _bad(effects: Effects) -> dict[UUID, PermanentError]:
    return {event_id: effect for event_id, effect in effects.items() if isinstance(effect, PermanentError)}


def _tell(event_id: UUID, error: Exception) -> None:
    log.error("delivery set aside", event_id=str(event_id), cause=_cause(error))


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]
