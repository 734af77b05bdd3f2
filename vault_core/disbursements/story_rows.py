"""Every row that tells something about one disbursement, read set-wise: what the story (story.py) is assembled from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.notifications.messages import phone_binding
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime

Rows = Sequence[Mapping[str, Any]]


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
           d.payout_cents, d.posted_at, d.receipt, p.name AS partner, p.b2c_short_code
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
_HOLDS = text("SELECT * FROM ledger_holds WHERE partner_id = :partner_id AND key = 'charges:' || :id ORDER BY placed_at")
_TRANSACTIONS = text(
    """
    SELECT t.id, t.kind, t.reference, t.effective_at, t.booked_at,
           jsonb_agg(jsonb_build_object('account', a.code, 'cents', e.amount_cents) ORDER BY e.leg) AS legs
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id JOIN ledger_accounts a ON a.id = e.account_id
    WHERE t.partner_id = :partner_id AND t.reference = ANY(:references) GROUP BY t.id ORDER BY t.booked_at, t.id
    """
)
_POSTINGS = text(
    """
    SELECT p.*, o.state AS call_state, o.tries AS call_tries, o.last_cause, o.due_at AS call_due_at, o.done_at
    FROM core_postings p LEFT JOIN outbox o ON o.kind = 'disbursement.post' AND o.subject = p.subject_id::text
    WHERE p.kind = 'disburse' AND p.subject_id = CAST(:id AS uuid)
    """
)
_MESSAGES = text(
    """
    SELECT m.id, m.template, m.state, m.created_at, m.accepted_at, m.reason, m.parts, m.phone_sealed,
           (SELECT jsonb_agg(jsonb_build_object('number', t.number, 'state', t.state, 'answer', t.answer) ORDER BY t.number)
            FROM message_attempts t WHERE t.message_id = m.id) AS tries
    FROM messages m
    WHERE m.partner_id = :partner_id AND m.created_at >= :since
          AND (starts_with(m.business_key, 'disbursed:' || :id) OR starts_with(m.business_key, 'failed:' || :id))
    ORDER BY m.created_at, m.id
    """
)
_CASES = text(
    """
    SELECT kind, subject, opened_at, closed_at, resolution, evidence FROM cases
    WHERE subject LIKE ANY(:subjects) ORDER BY opened_at
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
    messages = await rows(_MESSAGES, partner_id=found["partner_id"], since=found["detected_at"], id=written)
    for message in messages:
        sealed = message.pop("phone_sealed")
        message["phone"] = mask_phone(runtime.sealer.open_text(sealed, bound_to=phone_binding(message["id"])))
    deciding = [row["result_event_id"] for row in instructions] + [row["answer_event_id"] for row in questions]
    receipts = {row["receipt"] for row in [found, *instructions] if row["receipt"]}
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
        holds=await rows(_HOLDS, partner_id=found["partner_id"], id=written),
        transactions=await rows(
            _TRANSACTIONS, partner_id=found["partner_id"], references=[*receipts, *(str(message["id"]) for message in messages)]
        ),
        postings=await rows(_POSTINGS, id=written),
        messages=messages,
        cases=await rows(
            _CASES,
            subjects=[
                f"disbursement {written}",
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
