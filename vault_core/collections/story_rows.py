"""Every row that tells something about one payment, read set-wise: what the story (story.py) is assembled from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.runtime import Runtime
from vault_core.story import Rows, read_cases, read_messages, read_transactions


@dataclass(frozen=True, slots=True)
class StoryRows:
    """The rows, by source. Nothing sealed is in them."""

    found: Mapping[str, Any]
    tellings: Rows  # by feeds after the first
    deliveries: Rows
    calls: Rows  # of the outbox: tries to match and post, and to undo
    postings: Rows
    decisions: Rows
    requests: Rows  # reversals that M-Pesa was asked for
    questions: Rows
    transactions: Rows
    messages: Rows
    cases: Rows
    acts: Rows


_FOUND = text(
    """
    SELECT c.id, c.partner_id, c.short_code, c.receipt, c.amount_cents, c.happened_at, c.booked_at, c.source, c.event_id, c.state,
           c.found_late, p.name AS partner
    FROM collections c JOIN partners p ON p.id = c.partner_id WHERE c.id = :id
    """
)
_TELLINGS = text("SELECT source, event_id, told_at FROM collection_tellings WHERE collection_id = :id ORDER BY told_at, event_id")
# The one that it was booked from, those that repeated it (their effect names the receipt), and the words about its reversals.
_DELIVERIES = text(
    """
    SELECT id, purpose, received_at, processed_at, state, effect, cause FROM inbound_events
    WHERE id = ANY(:ids) OR path_reference = ANY(:references)
          OR (partner_id = :partner_id AND purpose IN ('c2b_confirmation', 'c2b_validation', 'stk_result')
              AND received_at BETWEEN :since AND :until AND ' ' || effect || ' ' LIKE :named)
    ORDER BY received_at, id
    """
)
_CALLS = text(
    """
    SELECT kind, created_at, state, tries, last_cause, due_at, done_at FROM outbox
    WHERE (kind = 'collection.post' AND subject = :id) OR (kind = 'collection.undo' AND subject = ANY(:decisions))
    ORDER BY created_at
    """
)
_POSTINGS = text(
    """
    SELECT * FROM core_postings WHERE subject_id = CAST(:id AS uuid) AND kind IN ('repayment', 'deposit')
    ORDER BY length(external_id), external_id
    """
)
_DECISIONS = text("SELECT * FROM collection_decisions WHERE collection_id = :id ORDER BY proposed_at, id")
_REQUESTS = text("SELECT * FROM reversal_requests WHERE collection_id = :id ORDER BY written_at")
_QUESTIONS = text(
    """
    SELECT q.* FROM reversal_questions q JOIN reversal_requests r ON r.id = q.request_id
    WHERE r.collection_id = :id ORDER BY q.asked_at
    """
)
_ACTS = text(
    """
    SELECT at, actor, act, before, after, reason FROM audit_log
    WHERE subject = :subject
          OR (at >= :since AND subject = 'partner ' || :partner AND act = 'collections.resumed'
              AND jsonb_exists(after -> 'receipts', :receipt))
    ORDER BY at, id
    """
)
_TOLD_FOR = timedelta(days=3)  # after it happened a payment is told by no feed any more


async def read_story_rows(connection: AsyncConnection, runtime: Runtime, collection_id: UUID) -> StoryRows:
    """All rows about one payment that exists."""

    async def rows(statement: TextClause, **values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in (await connection.execute(statement, values)).mappings()]

    (found,) = await rows(_FOUND, id=collection_id)
    receipt, partner_id, since = found["receipt"], found["partner_id"], found["happened_at"] - _TOLD_FOR
    decisions, requests = await rows(_DECISIONS, id=collection_id), await rows(_REQUESTS, id=collection_id)
    questions = await rows(_QUESTIONS, id=collection_id)
    key = f"receipt:{found['short_code']}:{receipt}"
    messages = await read_messages(connection, runtime, partner_id, found["booked_at"], [key])
    reversals = [row["reversal_receipt"] for row in requests if row["reversal_receipt"]]
    subject = f"{found['short_code']} {receipt}"
    return StoryRows(
        found=found,
        tellings=await rows(_TELLINGS, id=collection_id),
        deliveries=await rows(
            _DELIVERIES,
            ids=[found["event_id"], *(row["result_event_id"] for row in requests if row["result_event_id"])],
            references=[row["id"].hex for row in [*requests, *questions]],
            partner_id=partner_id,
            since=since,
            until=found["happened_at"] + _TOLD_FOR,
            named=f"% {receipt} %",
        ),
        calls=await rows(_CALLS, id=str(collection_id), decisions=[str(row["id"]) for row in decisions]),
        postings=await rows(_POSTINGS, id=str(collection_id)),
        decisions=decisions,
        requests=requests,
        questions=questions,
        transactions=await read_transactions(
            connection, partner_id, [receipt, *reversals, *(str(message["id"]) for message in messages)]
        ),
        messages=messages,
        cases=await read_cases(
            connection, [subject, f"collection.post {collection_id}", *(f"collection.undo {row['id']}" for row in decisions)]
        ),
        acts=await rows(_ACTS, subject=f"collection {subject}", since=since, partner=found["partner"], receipt=receipt),
    )
