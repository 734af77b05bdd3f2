"""Grouping ready disbursements into batches: one Dagster run pays one batch."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.runtime import Runtime

MOST_IN_A_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of one partner."""

    id: UUID
    partner_name: str
    loans: int


_LOST = "(SELECT id FROM disbursement_batches WHERE coalesce(worked_at, formed_at) < :lost)"
_PARTNERS = text(
    f"""
    SELECT DISTINCT p.id, p.name FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE d.state = 'ready' AND d.due_at <= :now AND p.state = 'active'
          AND NOT EXISTS (SELECT FROM payout_halts WHERE ended_at IS NULL)
          AND (d.batch_id IS NULL OR d.batch_id IN {_LOST}) ORDER BY p.name
    """  # noqa: S608 - the condition stands above
)
_NEW = text("INSERT INTO disbursement_batches (id, partner_id, formed_at, loans) VALUES (:id, :partner_id, :now, 0)")
_FILL = text(
    f"""
    UPDATE disbursements SET batch_id = :id
    FROM (SELECT id FROM disbursements WHERE partner_id = :partner_id AND state = 'ready' AND due_at <= :now
          AND (batch_id IS NULL OR batch_id IN {_LOST})
          ORDER BY detected_at, loan_id LIMIT :most FOR UPDATE SKIP LOCKED) AS free
    WHERE disbursements.id = free.id
    """  # noqa: S608
)
_COUNT = text("UPDATE disbursement_batches SET loans = :loans WHERE id = :id")
_DROP = text("DELETE FROM disbursement_batches WHERE id = :id")
_WORKED = text("UPDATE disbursement_batches SET worked_at = :now WHERE id = :id AND (worked_at IS NULL OR worked_at < :before)")
_NOTED_EVERY = timedelta(seconds=5)


async def note_work(connection: AsyncConnection, runtime: Runtime, batch_id: UUID) -> None:
    """Notes, in the transaction of a claim, that the batch's run is under way."""
    now = runtime.clock.now()
    await connection.execute(_WORKED, {"id": batch_id, "now": now, "before": now - _NOTED_EVERY})


async def form_batches(runtime: Runtime) -> list[Batch]:
    """Puts every ready, due disbursement of an active partner that is in no batch into a new one, and returns these.

    None while all sending is halted: what is ready waits as it is. What is left of a batch that nothing was claimed of for
    `batch_lost_after` is put into a new one, too: its tick or its run was lost. Should the run live after all, the two share the
    loans between them, and each is claimed once.
    """

    async def work(connection: AsyncConnection) -> list[Batch]:
        now = runtime.clock.now()
        lost = now - timedelta(seconds=runtime.pace.batch_lost_after)
        batches = []
        for partner in (await connection.execute(_PARTNERS, {"now": now, "lost": lost})).all():
            batch_id = runtime.new_id()
            await connection.execute(_NEW, {"id": batch_id, "partner_id": partner.id, "now": now})
            filled = await connection.execute(
                _FILL,
                {
                    "id": batch_id,
                    "partner_id": partner.id,
                    "now": now,
                    "lost": lost,
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
