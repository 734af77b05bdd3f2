"""Asking M-Pesa to give payments back, and asking what became of that (reference/daraja.md section 6.3).

A reversal has no id of ours on the wire: what makes a second sending harmless is the receipt, which M-Pesa reverses once
(R000001 after that). So one whose acknowledgement was lost is sent again under the same row; one that M-Pesa acknowledged is
asked about by the id that it gave. Each sending is committed before it leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.daraja import QueryAck, ReversalInstruction, StatusQuestion
from vault_core.collections.reversal_rows import ReversalRequest, lock_due
from vault_core.collections.reversal_settling import UNKNOWN_CASE, put_back
from vault_core.database import in_transaction
from vault_core.errors import VaultError
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 20


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be done about one request: sent (`question` None), or asked about under a question's id."""

    request: ReversalRequest
    question: UUID | None


_SENDING = text(
    "UPDATE reversal_requests SET state = 'sending', sends = sends + 1, sent_at = :now, next_at = :next WHERE id = :id"
)
_ASKING = text("UPDATE reversal_requests SET questions = questions + 1, next_at = :next WHERE id = :id")
# Words of M-Pesa about them that came in and were not applied yet.
_UNREAD = text(
    """
    SELECT r.id FROM reversal_requests r
    WHERE r.id = ANY(:ids) AND EXISTS (
        SELECT FROM inbound_events e
        WHERE e.state = 'stored' AND e.purpose = 'query_result'
              AND e.path_reference IN (SELECT replace(r.id::text, '-', '') UNION ALL
                                       SELECT replace(q.id::text, '-', '') FROM reversal_questions q WHERE q.request_id = r.id))
    """
)
_PUT_OFF = text("UPDATE reversal_requests SET next_at = :next WHERE id = ANY(:ids)")
_WITH_A_PERSON = text("UPDATE reversal_requests SET next_at = NULL WHERE id = :id")
_QUESTION = text(
    "INSERT INTO reversal_questions (id, partner_id, request_id, asked_at) VALUES (:id, :partner_id, :request_id, :now)"
)
# A result may have come before this answer of the gateway: what it said stands.
_ANSWERED = text(
    """
    UPDATE reversal_requests SET state = CASE WHEN state = 'sending' THEN :state ELSE state END, answer = :answer,
           originator_conversation_id = coalesce(originator_conversation_id, :originator),
           conversation_id = coalesce(conversation_id, :conversation),
           next_at = CASE WHEN state IN ('done', 'failed') THEN NULL ELSE coalesce(:next, next_at) END
    WHERE id = :id
    """
)
_QUESTION_ANSWERED = text(
    """
    UPDATE reversal_questions SET outcome = :answer, originator_conversation_id = :originator, conversation_id = :conversation
    WHERE id = :id
    """
)


async def advance_reversals(runtime: Runtime, connections: Connections) -> int:
    """Sends the reversals that are due, asks about those whose result does not come, and returns how many of both.

    What is still open after the last question goes to a person, with a case 'reversal_unknown'. While a word of M-Pesa about a
    reversal waits to be applied nothing is done about it. Any number of processes may.
    """
    steps = await in_transaction(runtime.engine, partial(_take, runtime))
    for step in steps:
        if step.question is None:
            await _send(runtime, connections, step.request)
        else:
            await _ask(runtime, connections, step.request, step.question)
    return len(steps)


async def _take(runtime: Runtime, connection: AsyncConnection) -> list[_Step]:
    now, pace = runtime.clock.now(), runtime.pace
    steps: list[_Step] = []
    stuck: list[ReversalRequest] = []
    for request in await _without_word(connection, runtime, await lock_due(connection, now, _MOST)):
        if max(request.sends, request.questions) >= pace.status_query_tries:
            stuck.append(request)
        elif request.originator_conversation_id is None:
            wait = timedelta(seconds=pace.status_query_after)
            await connection.execute(_SENDING, {"id": request.id, "now": now, "next": now + wait})
            steps.append(_Step(request, None))
        else:
            question, wait = runtime.new_id(), timedelta(seconds=pace.status_query_spacing)
            values = {"id": question, "partner_id": request.partner_id, "request_id": request.id, "now": now}
            await connection.execute(_QUESTION, values)
            await connection.execute(_ASKING, {"id": request.id, "next": now + wait})
            steps.append(_Step(request, question))
    await give_to_person(connection, runtime, stuck, "no verdict after the last question")
    return steps


async def _without_word(connection: AsyncConnection, runtime: Runtime, due: Sequence[ReversalRequest]) -> list[ReversalRequest]:
    """Those of `due` of which nothing waits to be applied; the others are looked at later."""
    if not due:
        return []
    unread = set((await connection.execute(_UNREAD, {"ids": [request.id for request in due]})).scalars())
    if unread:
        next_at = runtime.clock.now() + timedelta(seconds=runtime.pace.status_query_spacing)
        await connection.execute(_PUT_OFF, {"ids": list(unread), "next": next_at})
    return [request for request in due if request.id not in unread]


async def give_to_person(connection: AsyncConnection, runtime: Runtime, requests: Sequence[ReversalRequest], why: str) -> None:
    """Ends the asking about requests that only the M-Pesa portal can settle, each with a case."""
    for request in requests:
        await connection.execute(_WITH_A_PERSON, {"id": request.id})
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCase(
                kind=UNKNOWN_CASE,
                subject=request.subject,
                partner_id=request.partner_id,
                amount=request.amount,
                evidence={
                    "why": why,
                    "sent": request.sends,
                    "asked": request.questions,
                    "originator_conversation_id": request.originator_conversation_id,
                    "do": f"look in the M-Pesa portal, then `vault collections reversal-seen {request.receipt}`",
                },
            )
            for request in requests
        ],
    )


async def _send(runtime: Runtime, connections: Connections, request: ReversalRequest) -> None:
    reference = request.id.hex
    try:
        daraja = await connections.daraja(request.partner_id)
        outcome = await daraja.reverse(
            ReversalInstruction(
                receipt=request.receipt,
                amount=request.amount,
                short_code=request.short_code,
                remarks=f"reversal of {request.receipt}",
                occasion=reference,
                result_url=callback_url(runtime, request.partner_id, "query_result", reference),
                timeout_url=callback_url(runtime, request.partner_id, "query_timeout", reference),
                resend=request.sends > 0,
            )
        )
    except VaultError as error:
        log.warning("reversal not sent", receipt=request.receipt, cause=str(error))
        outcome = Unknown(f"not known to be sent: {error}")
    await in_transaction(runtime.engine, partial(_record, runtime, request, outcome))


async def _record(runtime: Runtime, request: ReversalRequest, outcome: Outcome[QueryAck], connection: AsyncConnection) -> None:
    values = {"id": request.id, "state": "unknown", "originator": None, "conversation": None, "next": None}
    match outcome:
        case Accepted(value=ack):
            ids = {"originator": ack.originator_conversation_id or None, "conversation": ack.conversation_id}
            values |= {"state": "accepted", "answer": "accepted", **ids}
        case Unknown(cause=cause):
            values |= {"answer": cause[:500]}
        case Refused(refusal=Refusal.RETRY_LATER):
            again = runtime.clock.now() + timedelta(seconds=runtime.pace.outbox_retry_base * 2**request.sends)
            values |= {"answer": f"{outcome.code}: {outcome.reason}"[:500], "next": again}
        case Refused():
            words = f"{outcome.code}: {outcome.reason}"[:500]
            await connection.execute(_ANSWERED, {**values, "answer": words})
            await put_back(connection, runtime, request.id, outcome.code, f"M-Pesa refused the request: {words}", None)
            return
    await connection.execute(_ANSWERED, values)


async def _ask(runtime: Runtime, connections: Connections, request: ReversalRequest, question: UUID) -> None:
    reference = question.hex
    try:
        daraja = await connections.daraja(request.partner_id)
        outcome = await daraja.query_status(
            StatusQuestion(
                originator_conversation_id=request.originator_conversation_id or "",
                short_code=request.short_code,
                result_url=callback_url(runtime, request.partner_id, "query_result", reference),
                timeout_url=callback_url(runtime, request.partner_id, "query_timeout", reference),
                occasion=reference,
            )
        )
    except VaultError as error:
        log.warning("question about a reversal not sent", receipt=request.receipt, cause=str(error))
        outcome = Unknown(f"not sent: {error}")
    values: dict[str, object] = {"id": question, "originator": None, "conversation": None}
    match outcome:
        case Accepted(value=ack):
            ids = {"originator": ack.originator_conversation_id or None, "conversation": ack.conversation_id}
            values |= {"answer": "accepted", **ids}
        case Refused(code=code, reason=reason):
            values |= {"answer": f"refused {code}: {reason}"[:500]}
        case Unknown(cause=cause):
            values |= {"answer": f"unknown: {cause}"[:500]}

    async def record(connection: AsyncConnection) -> None:
        await connection.execute(_QUESTION_ANSWERED, values)

    await in_transaction(runtime.engine, record)
