"""Taking payments up again that a person was handed: after a long outage of a Mifos X, say."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_cases
from vault_core.collections.assigning import UNDO_CALL
from vault_core.collections.booking import COLLECTION_CALL
from vault_core.database import in_transaction
from vault_core.outbox.calls import begin_anew
from vault_core.runtime import Runtime

_TAKE_UP = text(
    """
    UPDATE collections SET reason = NULL,
           state = CASE WHEN state = 'needs_review' AND account_id IS NULL THEN 'matching'
                        WHEN state = 'needs_review' THEN 'posting' ELSE state END
    WHERE id IN (
        SELECT stuck.id FROM collections stuck
        JOIN outbox ON outbox.kind = :kind AND outbox.subject = stuck.id::text
        WHERE stuck.partner_id = ANY(SELECT id FROM partners WHERE name = :partner)
          AND (CAST(:receipts AS text[]) IS NULL OR stuck.receipt = ANY(:receipts))
          AND (stuck.state = 'needs_review'
               OR (stuck.state IN ('matching', 'posting', 'posted') AND outbox.state = 'given_up')
               OR (stuck.state IN ('matching', 'posting') AND outbox.state = 'done'))
        FOR UPDATE OF stuck)
    RETURNING id, partner_id, short_code, receipt
    """
)
# Moves that people agreed on, whose call came to no end that it could write down.
_MOVES = text(
    """
    SELECT d.id, c.partner_id, c.receipt
    FROM collections c JOIN collection_decisions d ON d.collection_id = c.id AND d.kind = 'move' AND d.state = 'approved'
    JOIN outbox ON outbox.kind = :kind AND outbox.subject = d.id::text AND outbox.state <> 'pending'
    WHERE c.partner_id = ANY(SELECT id FROM partners WHERE name = :partner) AND c.state = 'posted'
          AND (CAST(:receipts AS text[]) IS NULL OR c.receipt = ANY(:receipts))
    FOR UPDATE OF c
    """
)


async def resume_collections(
    runtime: Runtime, partner: str, *, actor: str, reason: str, receipts: Sequence[str] | None = None
) -> list[str]:
    """Gives payments of the partner (all, or only `receipts`) their full tries again; returns the receipts that were taken up.

    Those in needs_review, and those whose call was given up, or was ended by a worker that came too late; moves too. Safe
    whatever Mifos X has: a payment that may be posted is read back before it is posted. Their cases are closed; one that cannot
    be posted now either gets a new one. Audited.
    """

    async def work(connection: AsyncConnection) -> list[str]:
        wanted = None if receipts is None else list(receipts)
        rows = (await connection.execute(_TAKE_UP, {"kind": COLLECTION_CALL, "partner": partner, "receipts": wanted})).all()
        moves = (await connection.execute(_MOVES, {"kind": UNDO_CALL, "partner": partner, "receipts": wanted})).all()
        if not rows and not moves:
            return []
        ids, move_ids = [row.id for row in rows], [row.id for row in moves]
        await begin_anew(connection, runtime.clock, COLLECTION_CALL, ids)
        await begin_anew(connection, runtime.clock, UNDO_CALL, move_ids)
        cases = [("collection_not_posted", f"{row.short_code} {row.receipt}") for row in rows]
        cases += [("call_given_up", f"{COLLECTION_CALL} {row_id}") for row_id in ids]
        cases += [("call_given_up", f"{UNDO_CALL} {decision_id}") for decision_id in move_ids]
        await close_cases(connection, runtime.clock, cases, resolution=f"taken up again by {actor}: {reason}")
        taken = sorted({row.receipt for row in [*rows, *moves]})
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="collections.resumed",
            partner_id=[*rows, *moves][0].partner_id,
            subject=f"partner {partner}",
            after={"receipts": taken},
            reason=reason,
        )
        return taken

    return await in_transaction(runtime.engine, work)
