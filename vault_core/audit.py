"""The append-only audit trail: every change of money, limits, credentials and users (DESIGN.md section 9)."""

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import Clock
from vault_core.identifiers import IdMaker

_INSERT = text(
    """
    INSERT INTO audit_log (id, at, actor, act, partner_id, subject, before, after, reason)
    VALUES (:id, :at, :actor, :act, :partner_id, :subject, :before, :after, :reason)
    """
).bindparams(bindparam("before", type_=JSON), bindparam("after", type_=JSON))


async def record_act(
    connection: AsyncConnection,
    clock: Clock,
    new_id: IdMaker,
    *,
    actor: str,
    act: str,
    subject: str,
    partner_id: UUID | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Writes one act in the caller's transaction. `before` and `after` must hold no secret and no clear phone or name."""
    await connection.execute(
        _INSERT,
        {
            "id": new_id(),
            "at": clock.now(),
            "actor": actor,
            "act": act,
            "partner_id": partner_id,
            "subject": subject,
            "before": before,
            "after": after,
            "reason": reason,
        },
    )
