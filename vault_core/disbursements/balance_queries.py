"""Asking M-Pesa for the balances of a short code while a payout waits for float, and reading its answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import BalanceQuestion
from vault_core.clients.daraja_balances import AccountBalances, read_balances
from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout
from vault_core.database import in_transaction
from vault_core.disbursements.asking import Noted, ask_all, in_words
from vault_core.disbursements.float_reports import Told, keep_reports
from vault_core.disbursements.float_rules import is_credible
from vault_core.disbursements.result_classes import ResultClass, meaning_of
from vault_core.errors import VaultError
from vault_core.inbox.delivery import Delivery
from vault_core.partners.answered_questions import answered_questions
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime
from vault_core.settings import Pace

log = structlog.get_logger(__name__)

_LEAST_GAP = 30.0  # seconds between two questions about one short code, whatever happens
_PATIENT_TRIES = 3  # unanswered questions before they come more rarely
_RAREST = timedelta(hours=1)

_DUE = text(
    """
    SELECT f.partner_id, p.b2c_short_code, f.unanswered FROM b2c_floats f JOIN partners p ON p.id = f.partner_id
    WHERE f.query_at <= :now AND f.short_since IS NOT NULL AND p.state = 'active'
          AND NOT EXISTS (SELECT FROM balance_queries q WHERE q.partner_id = f.partner_id AND q.asked_at > :lately)
    ORDER BY f.partner_id FOR UPDATE OF f SKIP LOCKED
    """
)
_ASKED = text(
    """
    INSERT INTO balance_queries (id, partner_id, short_code, asked_at)
    SELECT q.id, q.partner_id, q.short_code, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partners AS uuid[]), CAST(:codes AS text[])) AS q(id, partner_id, short_code)
    """
)
_PLAN_NEXT = text(
    """
    UPDATE b2c_floats SET query_at = next.at, unanswered = unanswered + 1
    FROM unnest(CAST(:partners AS uuid[]), CAST(:ats AS timestamptz[])) AS next(partner_id, at)
    WHERE b2c_floats.partner_id = next.partner_id
    """
)
_OUTCOMES = text(
    """
    UPDATE balance_queries SET outcome = answer.outcome, originator_conversation_id = answer.originator,
           conversation_id = answer.conversation
    FROM unnest(CAST(:ids AS uuid[]), CAST(:outcomes AS text[]), CAST(:originators AS text[]), CAST(:conversations AS text[]))
         AS answer(id, outcome, originator, conversation)
    WHERE balance_queries.id = answer.id
    """
)
_FIND = text(
    """
    SELECT id, partner_id, short_code, originator_conversation_id, conversation_id FROM balance_queries
    WHERE id = ANY(:ids) OR originator_conversation_id = ANY(:originators) OR conversation_id = ANY(:conversations)
    ORDER BY id FOR UPDATE
    """
)
_ANSWERED = text(
    """
    UPDATE balance_queries SET answered_at = :now, result_code = answer.code, utility_cents = answer.utility,
           answer_event_id = answer.event_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:utilities AS bigint[]), CAST(:events AS uuid[]))
         AS answer(id, code, utility, event_id)
    WHERE balance_queries.id = answer.id
    """
)
_HEARD = text("UPDATE b2c_floats SET unanswered = 0 WHERE partner_id = ANY(:partners)")
# Repeats with a refused credential would lock it (reference/daraja.md section 3.1).
_REST = text("UPDATE b2c_floats SET query_at = greatest(query_at, :later) WHERE partner_id = ANY(:partners)")


@dataclass(frozen=True, slots=True)
class _Question:
    id: UUID
    partner_id: UUID
    short_code: str


@dataclass(frozen=True, slots=True)
class _Answer:
    question: Row[Any]
    delivery: Delivery
    said: MpesaResult
    balances: AccountBalances | None


def next_question(unanswered: int, pace: Pace) -> timedelta:
    """The wait after a question when `unanswered` ones went before it: longer when M-Pesa keeps silent, an hour at most."""
    every = timedelta(seconds=pace.balance_query_every)
    doubled = min(max(unanswered - _PATIENT_TRIES + 1, 0), 10)
    return min(every * (1 << doubled), max(_RAREST, every))


async def ask_balances(runtime: Runtime, connections: Connections) -> int:
    """Asks about every short code whose question is due and returns how many were asked.

    Each question is committed before it is sent, with its own id in the URL of the answer.
    """
    questions = await in_transaction(runtime.engine, partial(_write_questions, runtime))
    return await ask_all(runtime, questions, partial(_ask, runtime, connections), _OUTCOMES)


async def _write_questions(runtime: Runtime, connection: AsyncConnection) -> list[_Question]:
    now = runtime.clock.now()
    lately = now - timedelta(seconds=min(_LEAST_GAP, runtime.pace.balance_query_every))
    due = (await connection.execute(_DUE, {"now": now, "lately": lately})).all()
    if not due:
        return []
    questions = [_Question(runtime.new_id(), row.partner_id, row.b2c_short_code) for row in due]
    await connection.execute(
        _ASKED,
        {
            "now": now,
            "ids": [question.id for question in questions],
            "partners": [question.partner_id for question in questions],
            "codes": [question.short_code for question in questions],
        },
    )
    await connection.execute(
        _PLAN_NEXT,
        {
            "partners": [row.partner_id for row in due],
            "ats": [now + next_question(row.unanswered, runtime.pace) for row in due],
        },
    )
    return questions


async def _ask(runtime: Runtime, connections: Connections, question: _Question) -> Noted:
    reference = question.id.hex
    try:
        daraja = await connections.daraja(question.partner_id)
        outcome = await daraja.query_balance(
            BalanceQuestion(
                short_code=question.short_code,
                result_url=callback_url(runtime, question.partner_id, "query_result", reference),
                timeout_url=callback_url(runtime, question.partner_id, "query_timeout", reference),
            )
        )
    except VaultError as error:
        log.warning("balance question not sent", short_code=question.short_code, cause=str(error))
        return question.id, f"not sent: {error}"[:500], None, None
    return in_words(question.id, outcome)


async def apply_balance_answers(
    connection: AsyncConnection, runtime: Runtime, read: Sequence[tuple[Delivery, MpesaResult | QueueTimeout]]
) -> Mapping[UUID, str]:
    """Applies those deliveries that answer a balance question and returns, for each of these, a few words on what it did.

    A balance is kept whatever came before it: a late answer is as true as an early one. Safe to repeat.
    """
    found = await answered_questions(connection, _FIND, read)
    effects: dict[UUID, str] = {}
    answers: list[_Answer] = []
    for delivery, said in read:
        if (question := found.get(delivery.id)) is None:
            continue
        if isinstance(said, QueueTimeout):
            effects[delivery.id] = "the balance question timed out: it is asked again as planned"
            continue
        balances = read_balances(said)
        answers.append(_Answer(question, delivery, said, balances))
        known = balances is not None and balances.utility is not None and is_credible(balances.at, delivery.received_at)
        effects[delivery.id] = "balance noted" if known else f"no credible utility balance ({said.code})"
    await _note(connection, runtime, answers)
    return effects


async def _note(connection: AsyncConnection, runtime: Runtime, answers: Sequence[_Answer]) -> None:
    if not answers:
        return
    now = runtime.clock.now()
    told = [
        Told(
            answer.question.partner_id,
            answer.balances.at,
            answer.balances.utility,
            answer.balances.working,
            answer.balances.charges_paid,
            "balance_query",
            answer.delivery.id,
            answer.delivery.received_at,
        )
        for answer in answers
        if answer.balances is not None and answer.balances.utility is not None
    ]
    refused = [answer.question.partner_id for answer in answers if meaning_of(answer.said.code).result_class is ResultClass.HALT]
    await connection.execute(_HEARD, {"partners": sorted({one.partner_id for one in told})})
    await connection.execute(_REST, {"partners": sorted(set(refused)), "later": now + _RAREST})
    await connection.execute(
        _ANSWERED,
        {
            "now": now,
            "ids": [answer.question.id for answer in answers],
            "codes": [answer.said.code for answer in answers],
            "utilities": [
                None if answer.balances is None or answer.balances.utility is None else answer.balances.utility.cents
                for answer in answers
            ],
            "events": [answer.delivery.id for answer in answers],
        },
    )
    await keep_reports(connection, runtime, told)
