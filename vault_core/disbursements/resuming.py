"""Taking paid disbursements up again whose posting a person was handed: after an outage of Mifos X, or a checker's approval."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_cases
from vault_core.database import in_transaction
from vault_core.disbursements.intended_posting import POST_CALL
from vault_core.outbox.calls import begin_anew
from vault_core.runtime import Runtime

# Only what has an intended posting: a payout whose amount differs has none. The posting is locked too: whoever takes the payment
# back at this moment has it undone, and that is seen only of rows that were waited for.
_TAKE_UP = text(
    """
    UPDATE disbursements SET state = 'posting', reason = NULL
    WHERE id IN (
        SELECT d.id FROM disbursements d
        JOIN core_postings p ON p.kind = 'disburse' AND p.subject_id = d.id AND p.state <> 'undone'
        JOIN outbox o ON o.kind = :kind AND o.subject = d.id::text
        WHERE d.partner_id = ANY(SELECT id FROM partners WHERE name = :partner)
          AND (CAST(:receipts AS text[]) IS NULL OR d.receipt = ANY(:receipts))
          AND (d.state = 'needs_review' OR (d.state IN ('paid', 'posting') AND o.state = 'given_up'))
        FOR UPDATE OF d, p)
    RETURNING id, partner_id, receipt
    """
)
# A refusal for good is kept by the server under its key. The new one is used only after a read-back: tries stay counted.
_REOPEN = text(
    """
    UPDATE core_postings SET state = 'unknown', idempotency_key = again.key, key_tries = 0
    FROM unnest(CAST(:subjects AS uuid[]), CAST(:keys AS text[])) AS again(subject, key)
    WHERE kind = 'disburse' AND subject_id = again.subject AND state = 'refused'
    """
)


async def resume_postings(
    runtime: Runtime, partner: str, *, actor: str, reason: str, receipts: Sequence[str] | None = None
) -> list[str]:
    """Gives the postings of the partner's paid disbursements (all, or only `receipts`) their full tries again.

    Returns the receipts that were taken up: those with a person, and those whose call was given up. Moves no money and posts none
    twice: the loan is read before it is posted to, so one that was posted by hand under the receipt is found. Their cases are
    closed; one that cannot be posted now gets a new one. Audited.
    """

    async def work(connection: AsyncConnection) -> list[str]:
        wanted = None if receipts is None else list(receipts)
        rows = (await connection.execute(_TAKE_UP, {"kind": POST_CALL, "partner": partner, "receipts": wanted})).all()
        if not rows:
            return []
        ids = [row.id for row in rows]
        await connection.execute(_REOPEN, {"subjects": ids, "keys": [runtime.new_id().hex for _ in ids]})
        await begin_anew(connection, runtime.clock, POST_CALL, ids)
        cases = [("disbursement_unposted", f"disbursement {row_id}") for row_id in ids]
        cases += [("call_given_up", f"{POST_CALL} {row_id}") for row_id in ids]
        await close_cases(connection, runtime.clock, cases, resolution=f"taken up again by {actor}: {reason}")
        taken = sorted(row.receipt for row in rows)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="postings.resumed",
            partner_id=rows[0].partner_id,
            subject=f"partner {partner}",
            after={"receipts": taken},
            reason=reason,
        )
        return taken

    return await in_transaction(runtime.engine, work)
