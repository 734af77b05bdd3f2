"""Asking M-Pesa what became of payouts whose result does not come, and reading its answers (reference/daraja.md section 6.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import StatusQuestion
from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout, parse_queue_timeout, parse_result
from vault_core.database import in_transaction
from vault_core.disbursements.asking import Noted, ask_all, in_words
from vault_core.disbursements.attempts import Attempt, lock_attempts
from vault_core.disbursements.awaiting import Note, give_to_people
from vault_core.disbursements.balance_queries import apply_balance_answers
from vault_core.disbursements.evidence import Asked, read_status_answer
from vault_core.disbursements.fee_readings import keep_fee_readings, read_fee
from vault_core.disbursements.settlement import Finding, settle
from vault_core.errors import VaultError
from vault_core.inbox.delivery import Delivery
from vault_core.partners.answered_questions import answered_questions
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200
_READ_WITHIN = timedelta(hours=1)  # a delivery that nobody could read for so long is no reason to wait any more


@dataclass(frozen=True, slots=True)
class _Question:
    id: UUID
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class _Stored:
    """A question as it was asked."""

    id: UUID
    partner_id: UUID
    attempt_id: UUID
    asked_at: datetime
    asked_before_at: datetime | None  # the first question since the payout was last sent, if that was another


_DUE = text(
    """
    SELECT a.id FROM disbursement_attempts a
    WHERE a.query_at <= :now AND a.state IN ('accepted', 'unknown') ORDER BY a.query_at LIMIT :most
    """
)
_ASKED = text(
    """
    INSERT INTO status_queries (id, partner_id, attempt_id, asked_at)
    SELECT q.id, q.partner_id, q.attempt_id, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partners AS uuid[]), CAST(:attempts AS uuid[])) AS q(id, partner_id, attempt_id)
    """
)
_PLAN_NEXT = text("UPDATE disbursement_attempts SET queries = queries + 1, query_at = :next WHERE id = ANY(:ids)")
_STILL_DUE = text("SELECT id FROM disbursement_attempts WHERE id = ANY(:ids) AND query_at <= :now")
# What M-Pesa has told already and nobody has read yet: no more is asked, and no person bothered, before it is.
_UNREAD = text(
    """
    SELECT a.id FROM unnest(CAST(:ids AS uuid[])) AS a(id)
    CROSS JOIN LATERAL (SELECT array_agg(replace(q.id::text, '-', '')) AS ids
                        FROM status_queries q WHERE q.attempt_id = a.id) asked
    WHERE EXISTS (SELECT FROM inbound_events e WHERE e.state = 'stored' AND e.received_at > :since
                  AND e.path_reference = ANY(asked.ids || replace(a.id::text, '-', '')))
    """
)
_PUT_OFF = text("UPDATE disbursement_attempts SET query_at = :next WHERE id = ANY(:ids)")
_OUTCOMES = text(
    """
    UPDATE status_queries SET outcome = answer.outcome, originator_conversation_id = answer.originator,
           conversation_id = answer.conversation
    FROM unnest(CAST(:ids AS uuid[]), CAST(:outcomes AS text[]), CAST(:originators AS text[]), CAST(:conversations AS text[]))
         AS answer(id, outcome, originator, conversation)
    WHERE status_queries.id = answer.id
    """
)
_FIND = text(
    """
    SELECT q.id, q.partner_id, q.attempt_id, q.asked_at, q.originator_conversation_id, q.conversation_id,
           (SELECT min(b.asked_at) FROM status_queries b JOIN disbursement_attempts a ON a.id = b.attempt_id
            WHERE b.attempt_id = q.attempt_id AND b.asked_at < q.asked_at AND b.asked_at > a.send_by) AS asked_before_at
    FROM status_queries q
    WHERE q.id = ANY(:ids) OR q.originator_conversation_id = ANY(:originators) OR q.conversation_id = ANY(:conversations)
    """
)
_ANSWERED = text(
    """
    UPDATE status_queries SET answered_at = :now, result_code = answer.code, transaction_status = answer.status,
           answer_event_id = answer.event_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:statuses AS text[]), CAST(:events AS uuid[]))
         AS answer(id, code, status, event_id)
    WHERE status_queries.id = answer.id
    """
)


async def ask_due(runtime: Runtime, connections: Connections) -> int:
    """Asks about every payout whose question is due and returns how many were asked.

    Each question is committed before it is sent, with its own id in the URL of the answer. A payout whose questions are used up
    goes to a person with everything known about it; not while a word of M-Pesa about it waits in the inbox to be read.
    """
    questions = await in_transaction(runtime.engine, partial(_write_questions, runtime))
    return await ask_all(runtime, questions, partial(_ask, runtime, connections), _OUTCOMES)


async def _write_questions(runtime: Runtime, connection: AsyncConnection) -> list[_Question]:
    now = runtime.clock.now()
    due = [row.id for row in await connection.execute(_DUE, {"now": now, "most": _MOST})]
    if not due:
        return []
    attempts = {attempt.id: attempt for attempt in await lock_attempts(connection, ids=due)}
    # Another process may have asked while this one waited for the lock.
    still = [row.id for row in await connection.execute(_STILL_DUE, {"ids": due, "now": now})]
    following = now + timedelta(seconds=runtime.pace.status_query_spacing)
    unread = set((await connection.execute(_UNREAD, {"ids": still, "since": now - _READ_WITHIN})).scalars())
    await connection.execute(_PUT_OFF, {"ids": list(unread), "next": following})
    asked_about = [attempts[attempt_id] for attempt_id in still if attempt_id not in unread]
    open_ones = [attempt for attempt in asked_about if attempt.state in {"accepted", "unknown"}]
    used_up = [attempt for attempt in open_ones if attempt.queries >= runtime.pace.status_query_tries]
    await give_to_people(
        connection, runtime, [Note(attempt, f"no verdict after {attempt.queries} status questions") for attempt in used_up]
    )
    questions = [_Question(runtime.new_id(), attempt) for attempt in open_ones if attempt not in used_up]
    await connection.execute(
        _ASKED,
        {
            "now": now,
            "ids": [question.id for question in questions],
            "partners": [question.attempt.partner_id for question in questions],
            "attempts": [question.attempt.id for question in questions],
        },
    )
    await connection.execute(
        _PLAN_NEXT,
        {
            "ids": [question.attempt.id for question in questions],
            "next": following,
        },
    )
    return questions


async def _ask(runtime: Runtime, connections: Connections, question: _Question) -> Noted:
    attempt, reference = question.attempt, question.id.hex
    try:
        partner = await connections.partner(attempt.partner_id)
        daraja = await connections.daraja(attempt.partner_id)
        outcome = await daraja.query_status(
            StatusQuestion(
                originator_conversation_id=attempt.originator_conversation_id,
                short_code=partner.b2c_short_code,
                result_url=callback_url(runtime, partner.id, "query_result", reference),
                timeout_url=callback_url(runtime, partner.id, "query_timeout", reference),
                occasion=reference,
            )
        )
    except VaultError as error:
        log.warning("status question not sent", loan=attempt.loan_account_no, cause=str(error))
        return question.id, f"not sent: {error}"[:500], None, None
    return in_words(question.id, outcome)


async def apply_payout_answers(
    runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]
) -> Mapping[UUID, str]:
    """Applies answers to status and balance questions, and time-outs of questions, and says for each what that did."""
    read = [(delivery, _read(delivery)) for delivery in deliveries]
    rows = await answered_questions(connection, _FIND, read)
    stored = {
        event_id: _Stored(row.id, row.partner_id, row.attempt_id, row.asked_at, row.asked_before_at)
        for event_id, row in rows.items()
    }
    attempts = {
        attempt.id: attempt for attempt in await lock_attempts(connection, ids=[asked.attempt_id for asked in stored.values()])
    }
    findings: list[Finding] = []
    answered: list[tuple[_Stored, MpesaResult, UUID]] = []
    others = [(delivery, said) for delivery, said in read if delivery.id not in stored]
    effects = dict(await apply_balance_answers(connection, runtime, others))
    for delivery, said in read:
        asked = stored.get(delivery.id)
        if asked is None:
            effects.setdefault(delivery.id, "answers no question of ours")
        elif isinstance(said, QueueTimeout):
            effects[delivery.id] = "the question timed out: it is asked again as planned"
        else:
            attempt = attempts[asked.attempt_id]
            answered.append((asked, said, delivery.id))
            evidence = read_status_answer(said, _circumstances(asked, attempt), settle=_settle(runtime, attempt))
            findings.append(Finding(attempt, evidence, delivery.id, delivery.received_at))
    effects.update(
        {finding.event_id: effect for finding, effect in zip(findings, await settle(connection, runtime, findings), strict=True)}
    )
    await _note_answers(connection, runtime, answered)
    fees = [read_fee(said, asked.attempt_id, event_id, "status_answer") for asked, said, event_id in answered]
    await keep_fee_readings(connection, [fee for fee in fees if fee is not None])
    return effects


def _circumstances(asked: _Stored, attempt: Attempt) -> Asked:
    if attempt.conversation_id is None:
        return Asked(attempt.written_at, attempt.send_by, asked.asked_at)
    # One that M-Pesa acknowledged may wait in its queues, unknown to the index. It is taken for lost, and a new id follows, only
    # on the answer to a later question: by the clock alone a late or a jumping one would do for that.
    return Asked(attempt.written_at, asked.asked_before_at or asked.asked_at, asked.asked_at)


def _settle(runtime: Runtime, attempt: Attempt) -> timedelta:
    if attempt.conversation_id is not None:
        return timedelta(seconds=runtime.pace.status_query_spacing)
    return timedelta(seconds=min(60.0, runtime.pace.status_query_after))  # what M-Pesa took shows in its index well before this


def _read(delivery: Delivery) -> MpesaResult | QueueTimeout:
    return parse_queue_timeout(delivery.body) if delivery.purpose == "query_timeout" else parse_result(delivery.body)


async def _note_answers(
    connection: AsyncConnection, runtime: Runtime, answered: Sequence[tuple[_Stored, MpesaResult, UUID]]
) -> None:
    if not answered:
        return
    await connection.execute(
        _ANSWERED,
        {
            "now": runtime.clock.now(),
            "ids": [asked.id for asked, _, _ in answered],
            "codes": [said.code for _, said, _ in answered],
            "statuses": [said.transaction_status for _, said, _ in answered],
            "events": [event_id for _, _, event_id in answered],
        },
    )
