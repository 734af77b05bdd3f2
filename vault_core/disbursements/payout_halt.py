"""Stopping all sending of payouts, of every partner, until a person lets it go on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.runtime import Runtime

_SUBJECT = "all payouts"


@dataclass(frozen=True, slots=True)
class Halt:
    """A halt of all sending that is in force."""

    id: UUID
    begun_at: datetime
    begun_by: str
    reason: str

    @property
    def words(self) -> str:
        """What to tell people whose loan waits for its end."""
        return f"all sending was stopped by {self.begun_by} ({self.reason}): it goes on after `vault halt --end`"


_IN_FORCE = text("SELECT id, begun_at, begun_by, reason FROM payout_halts WHERE ended_at IS NULL")
_BEGIN = text(
    """
    INSERT INTO payout_halts (id, begun_at, begun_by, reason) VALUES (:id, :now, :actor, :reason)
    ON CONFLICT ((true)) WHERE ended_at IS NULL DO NOTHING RETURNING id, begun_at, begun_by, reason
    """
)
_END = text(
    """
    UPDATE payout_halts SET ended_at = greatest(:now, begun_at), ended_by = :actor WHERE ended_at IS NULL
    RETURNING id, begun_at, begun_by, reason
    """
)


async def halt_in_force(connection: AsyncConnection) -> Halt | None:
    """The halt that has not ended, if there is one."""
    row = (await connection.execute(_IN_FORCE)).one_or_none()
    return None if row is None else _halt(row)


async def begin_halt(runtime: Runtime, *, reason: str, actor: str) -> Halt:
    """Lets no further payout be begun, in any process, from half a second after this on; what is under way goes on.

    Returns the halt in force: a repeat changes nothing, the first reason stays. Audited. Results, status questions, postings to
    Mifos X and texts go on. Whether sending has ceased is told by `vault_core.disbursements.under_way`.
    """
    reason = _reason(reason)

    async def work(connection: AsyncConnection) -> Halt:
        begun = (
            await connection.execute(
                _BEGIN, {"id": runtime.new_id(), "now": runtime.clock.now(), "actor": actor, "reason": reason}
            )
        ).one_or_none()
        if begun is not None:
            await _audit(connection, runtime, "payouts.halted", actor, reason)
            return _halt(begun)
        return _halt((await connection.execute(_IN_FORCE)).one())

    return await in_transaction(runtime.engine, work)


async def end_halt(runtime: Runtime, *, reason: str, actor: str) -> Halt | None:
    """Lets sending go on and returns the halt that ended; None, and nothing is written, if there was none. Audited."""
    reason = _reason(reason)

    async def work(connection: AsyncConnection) -> Halt | None:
        ended = (await connection.execute(_END, {"now": runtime.clock.now(), "actor": actor})).one_or_none()
        if ended is None:
            return None
        await _audit(connection, runtime, "payouts.go_on", actor, reason)
        return _halt(ended)

    return await in_transaction(runtime.engine, work)


def _reason(given: str) -> str:
    if not (reason := given.strip()):
        raise InvalidInput("a reason is needed: it stands in the audit trail and is shown to whoever asks why nothing is paid")
    return reason


async def _audit(connection: AsyncConnection, runtime: Runtime, act: str, actor: str, reason: str) -> None:
    await record_act(connection, runtime.clock, runtime.new_id, actor=actor, act=act, subject=_SUBJECT, reason=reason)


def _halt(row: Row[Any]) -> Halt:
    return Halt(row.id, row.begun_at, row.begun_by, row.reason)
