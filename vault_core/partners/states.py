"""Stopping and starting a partner's payouts: paused by a person, or halted because every next one would be refused alike."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_case
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, NotFound
from vault_core.partners.partner import PartnerState
from vault_core.runtime import Runtime

HALTED_CASE = "partner_halted"

_READ = text("SELECT name, state, state_reason FROM partners WHERE id = :id FOR NO KEY UPDATE")
_WRITE = text(
    """
    UPDATE partners SET state = :state, state_reason = :reason,
           next_poll_at = CASE WHEN :state = 'active' THEN :now ELSE next_poll_at END
    WHERE id = :id
    """
)


async def pause_partner(runtime: Runtime, partner_id: UUID, *, reason: str, actor: str) -> None:
    """Pays no new loan of the partner until it is resumed; what is under way goes on. Audited; a repeat changes nothing."""
    await _change(runtime, partner_id, "paused", reason, actor)


async def resume_partner(runtime: Runtime, partner_id: UUID, *, reason: str, actor: str) -> None:
    """Pays the partner's loans again, paused or halted before, and polls its Mifos X at once. Audited; closes a halt's case."""
    await _change(runtime, partner_id, "active", reason, actor)


async def halt_partner(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, *, reason: str, actor: str) -> bool:
    """Stops the partner's payouts in the caller's transaction, because an outside system refused for good. Audited.

    False, and nothing is written, if the partner is not active: who paused it, or the first cause, stays on record.
    """
    row = await _locked(connection, partner_id)
    if row.state != "active":
        return False
    await _write(connection, runtime, partner_id, row, "halted", reason, actor)
    return True


def halted_subject(partner: str) -> str:
    """The subject of the case about a halted partner."""
    return f"partner {partner}"


async def _change(runtime: Runtime, partner_id: UUID, state: PartnerState, reason: str, actor: str) -> None:
    reason = reason.strip()
    if not reason:
        raise InvalidInput("a reason is needed: it stands in the audit trail and is shown to whoever asks why")

    async def work(connection: AsyncConnection) -> None:
        row = await _locked(connection, partner_id)
        if row.state != state or (state != "active" and row.state_reason != reason):
            await _write(connection, runtime, partner_id, row, state, reason, actor)

    await in_transaction(runtime.engine, work)


async def _locked(connection: AsyncConnection, partner_id: UUID) -> Row[Any]:
    row = (await connection.execute(_READ, {"id": partner_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no partner {partner_id}")
    return row


async def _write(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, row: Row[Any], state: PartnerState, reason: str, actor: str
) -> None:
    kept = None if state == "active" else reason
    await connection.execute(_WRITE, {"id": partner_id, "state": state, "reason": kept, "now": runtime.clock.now()})
    if state == "active":
        resolution = f"resumed by {actor}: {reason}"
        await close_case(connection, runtime.clock, kind=HALTED_CASE, subject=halted_subject(row.name), resolution=resolution)
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act={"active": "partner.resumed", "paused": "partner.paused", "halted": "partner.halted"}[state],
        subject=row.name,
        partner_id=partner_id,
        before={"state": row.state, "reason": row.state_reason},
        after={"state": state, "reason": kept},
        reason=reason,
    )
