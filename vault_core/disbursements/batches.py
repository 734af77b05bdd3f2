"""Grouping ready disbursements into batches: one Dagster run pays one batch."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.runtime import Runtime

MOST_IN_A_BATCH = 5000
# A batch whose run died is formed anew after this. Should the run live after all, the two share the loans between them.
LOST_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of one partner."""

    id: UUID
    partner_name: str
    loans: int


_PARTNERS = text(
    """
    SELECT DISTINCT p.id, p.name FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE d.state = 'ready' AND d.due_at <= :now AND p.state = 'active'
          AND NOT EXISTS (SELECT FROM payout_halts WHERE ended_at IS NULL)
          AND (d.batch_id IS NULL OR d.batch_id IN (SELECT id FROM disbursement_batches WHERE formed_at < :lost)) ORDER BY p.name
    """
)
_NEW = text("INSERT INTO disbursement_batches (id, partner_id, formed_at, loans) VALUES (:id, :partner_id, :now, 0)")
_FILL = text(
    """
    UPDATE disbursements SET batch_id = :id
    FROM (SELECT id FROM disbursements WHERE partner_id = :partner_id AND state = 'ready' AND due_at <= :now
          AND (batch_id IS NULL OR batch_id IN (SELECT id FROM disbursement_batches WHERE formed_at < :lost))
          ORDER BY detected_at, loan_id LIMIT :most FOR UPDATE SKIP LOCKED) AS free
    WHERE disbursements.id = free.id
    """
)
_COUNT = text("UPDATE disbursement_batches SET loans = :loans WHERE id = :id")
_DROP = text("DELETE FROM disbursement_batches WHERE id = :id")


async def form_batches(runtime: Runtime) -> list[Batch]:
    """Puts every ready, due disbursement of an active partner that is in no batch into a new one, and returns these.

    None while all sending is halted: what is ready waits as it is.
    """

    async def work(connection: AsyncConnection) -> list[Batch]:
        now = runtime.clock.now()
        batches = []
        for partner in (await connection.execute(_PARTNERS, {"now": now, "lost": now - LOST_AFTER})).all():
            batch_id = runtime.new_id()
            await connection.execute(_NEW, {"id": batch_id, "partner_id": partner.id, "now": now})
            filled = await connection.execute(
                _FILL,
                {
                    "id": batch_id,
                    "partner_id": partner.id,
                    "now": now,
                    "lost": now - LOST_AFTER,
                    "most": MOST_IN_A_BATCH,
                },
            )
            if filled.rowcount:
                await connection.execute(_COUNT, {"id": batch_id, "loans": filled.rowcount})
                batches.append(Batch(batch_id, partner.name, filled.rowcount))
            else:
                await connection.execute(_DROP, {"id": batch_id})
        return batches

    return await in_transaction(runtime.engine, work)
