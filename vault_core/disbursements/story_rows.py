"""Every row that tells something about one disbursement, read set-wise: what the story (story.py) is assembled from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.attempts import again
from vault_core.runtime import Runtime
from vault_core.story import Rows, read_cases, read_messages, read_transactions


@dataclass(frozen=True, slots=True)
class StoryRows:
    """The rows, by source. Phones are masked already; nothing sealed is in them."""

    found: Mapping[str, Any]
    instructions: Rows
    deliveries: Rows
    questions: Rows
    resolutions: Rows
    holds: Rows
    transactions: Rows  # each with its `legs`: [{account, cents}]
    postings: Rows
    messages: Rows
    cases: Rows
    acts: Rows


_FOUND = text(
    """
    SELECT d.id, d.partner_id, d.loan_id, d.loan_account_no, d.tranche, d.detected_at, d.found_by, d.principal_cents,
           d.payout_cents, d.posted_at, d.receipt, d.taken_back, p.name AS partner, p.b2c_short_code
    FROM disbursements d JOIN partners p ON p.id = d.partner_id WHERE d.id = :id
    """
)
_INSTRUCTIONS = text("SELECT * FROM disbursement_attempts WHERE disbursement_id = :id ORDER BY number")
_QUESTIONS = text(
    """
    SELECT q.*, a.number FROM status_queries q JOIN disbursement_attempts a ON a.id = q.attempt_id
    WHERE a.disbursement_id = :id ORDER BY q.asked_at
    """
)
# By the reference that we put into each callback's path, and by what decided an instruction or answered a question.
_DELIVERIES = text(
    """
    SELECT id, purpose, received_at, processed_at, state, effect, cause FROM inbound_events
    WHERE path_reference = ANY(:references) OR id = ANY(:ids) ORDER BY received_at, id
    """
)
_RESOLUTIONS = text("SELECT * FROM disbursement_resolutions WHERE disbursement_id = :id ORDER BY proposed_at")
_HOLDS = text("SELECT * FROM ledger_holds WHERE partner_id = :partner_id AND key = ANY(:keys) ORDER BY placed_at")
_POSTINGS = text(
    """
    SELECT p.*, o.state AS call_state, o.tries AS call_tries, o.last_cause, o.due_at AS call_due_at, o.done_at
    FROM core_postings p LEFT JOIN outbox o ON o.kind = 'disbursement.post' AND o.subject = p.subject_id::text
    WHERE p.kind = 'disburse' AND p.subject_id = CAST(:id AS uuid)
    """
)
# What was done to the loan; while it was open, to all payouts of its partner or of everyone; postings taken up again by receipt.
_ACTS = text(
    """
    SELECT at, actor, act, before, after, reason FROM audit_log
    WHERE subject = :subject
          OR (at BETWEEN :since AND :until AND (
              (subject = :partner AND act IN ('partner.halted', 'partner.paused', 'partner.resumed'))
              OR (subject = 'all payouts' AND act IN ('payouts.halted', 'payouts.go_on'))))
          OR (at >= :since AND subject = 'partner ' || :partner AND jsonb_exists(after -> 'receipts', :receipt))
    ORDER BY at, id
    """
)


async def read_story_rows(connection: AsyncConnection, runtime: Runtime, disbursement_id: UUID) -> StoryRows:
    """All rows about one disbursement that exists."""

    async def rows(statement: TextClause, **values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in (await connection.execute(statement, values)).mappings()]

    written = str(disbursement_id)
    (found,) = await rows(_FOUND, id=disbursement_id)
    instructions = await rows(_INSTRUCTIONS, id=disbursement_id)
    questions = await rows(_QUESTIONS, id=disbursement_id)
    keys = [f"disbursed:{written}", f"failed:{written}"]
    messages = await read_messages(connection, runtime, found["partner_id"], found["detected_at"], keys)
    deciding = [row["result_event_id"] for row in instructions] + [row["answer_event_id"] for row in questions]
    postings = await rows(_POSTINGS, id=written)
    receipts = {row["receipt"] for row in [found, *instructions, *postings] if row["receipt"]}  # postings keep one taken back
    return StoryRows(
        found=found,
        instructions=instructions,
        questions=questions,
        deliveries=await rows(
            _DELIVERIES,
            references=[row["id"].hex for row in [*instructions, *questions]],
            ids=[event for event in deciding if event is not None],
        ),
        resolutions=await rows(_RESOLUTIONS, id=disbursement_id),
        holds=await rows(
            _HOLDS,
            partner_id=found["partner_id"],
            keys=[f"charges:{written}{again(taken_back)}" for taken_back in range(found["taken_back"] + 1)],
        ),
        transactions=await read_transactions(
            connection, found["partner_id"], [*receipts, *(str(message["id"]) for message in messages)]
        ),
        postings=postings,
        messages=messages,
        cases=await read_cases(
            connection,
            [
                f"disbursement {written}%",
                f"disbursement.post {written}",
                *(f"attempt {row['id']} %" for row in instructions),
            ],
        ),
        acts=await rows(
            _ACTS,
            subject=f"disbursement {written}",
            since=found["detected_at"],
            until=found["posted_at"] or runtime.clock.now(),
            partner=found["partner"],
            receipt=found["receipt"] or "",
        ),
    )
