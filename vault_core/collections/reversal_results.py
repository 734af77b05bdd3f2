"""Reading what M-Pesa tells about reversals: results of the requests, answers to questions about them, queue time-outs."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout, parse_queue_timeout, parse_result
from vault_core.clients.daraja_reversal import (
    ReversalVerdict,
    SaysNotReversed,
    SaysReversed,
    charge_words,
    read_reversal_result,
    read_reversal_status,
)
from vault_core.collections.reversal_rows import ReversalRequest, lock_requests
from vault_core.collections.reversal_sending import give_to_person
from vault_core.collections.reversal_settling import GivenBack, book_given_back, put_back
from vault_core.inbox.delivery import Delivery
from vault_core.partners.answered_questions import answered_questions
from vault_core.runtime import Runtime

Said = MpesaResult | QueueTimeout


@dataclass(frozen=True, slots=True)
class _About:
    """What a delivery is about: the request itself, or a question about it."""

    request_id: UUID
    question_id: UUID | None


_FIND = text(
    """
    SELECT id, id AS request_id, CAST(NULL AS uuid) AS question_id, partner_id, originator_conversation_id, conversation_id
    FROM reversal_requests
    WHERE id = ANY(:ids) OR originator_conversation_id = ANY(:originators) OR conversation_id = ANY(:conversations)
    UNION ALL
    SELECT id, request_id, id, partner_id, originator_conversation_id, conversation_id
    FROM reversal_questions
    WHERE id = ANY(:ids) OR originator_conversation_id = ANY(:originators) OR conversation_id = ANY(:conversations)
    """
)
_ANSWERED = text(
    """
    UPDATE reversal_questions SET answered_at = :now, result_code = :code, transaction_status = :status,
           answer_event_id = :event_id
    WHERE id = :id
    """
)
# M-Pesa's ids of a request whose acknowledgement was lost: from here on it can be asked about.
_LEARNED = text(
    """
    UPDATE reversal_requests SET originator_conversation_id = coalesce(originator_conversation_id, :originator),
           conversation_id = coalesce(conversation_id, :conversation) WHERE id = :id
    """
)


async def apply_reversal_answers(
    connection: AsyncConnection, runtime: Runtime, deliveries: Sequence[Delivery]
) -> dict[UUID, str]:
    """Applies those of `deliveries` that are about a reversal and returns, for each of these, a few words on what it did.

    In the caller's transaction; safe to repeat. Raises InvalidInput for a body of ours that cannot be read.
    """
    read = [(delivery, _read(delivery)) for delivery in deliveries if delivery.path_reference or delivery.body]
    rows = await answered_questions(connection, _FIND, read)
    found = {event_id: _About(row.request_id, row.question_id) for event_id, row in rows.items()}
    await lock_requests(connection, sorted({about.request_id for about in found.values()}))
    effects: dict[UUID, str] = {}
    for delivery, said in read:
        if (about := found.get(delivery.id)) is not None:
            effects[delivery.id] = await _apply(connection, runtime, delivery, said, about)
    return effects


def _read(delivery: Delivery) -> Said:
    return parse_queue_timeout(delivery.body) if delivery.purpose == "query_timeout" else parse_result(delivery.body)


async def _apply(connection: AsyncConnection, runtime: Runtime, delivery: Delivery, said: Said, about: _About) -> str:
    if isinstance(said, QueueTimeout):
        return "a queue time-out of a reversal is no verdict: it is asked about as planned"
    request = (await lock_requests(connection, [about.request_id]))[about.request_id]
    if about.question_id is None:
        ids = {"originator": said.originator_conversation_id, "conversation": said.conversation_id}
        await connection.execute(_LEARNED, {"id": request.id, **ids})
        verdict = read_reversal_result(said, request.receipt, request.amount)
    else:
        told = {"code": said.code, "status": said.transaction_status, "event_id": delivery.id}
        await connection.execute(_ANSWERED, {"id": about.question_id, "now": runtime.clock.now(), **told})
        verdict = read_reversal_status(said, request.receipt, request.amount)
    return await _settle(connection, runtime, request, verdict, said, delivery)


async def _settle(
    connection: AsyncConnection,
    runtime: Runtime,
    request: ReversalRequest,
    verdict: ReversalVerdict,
    said: MpesaResult,
    delivery: Delivery,
) -> str:
    if isinstance(verdict, SaysReversed):
        given_back = GivenBack(verdict.receipt, verdict.at or delivery.received_at)
        words = "; ".join(filter(None, (said.text, charge_words(said))))
        return await book_given_back(
            connection, runtime, request.id, given_back, code=said.code, words=words, event_id=delivery.id
        )
    if isinstance(verdict, SaysNotReversed):
        words = f"{said.code}: {said.text}" if said.transaction_status is None else f"M-Pesa has it as {said.transaction_status}"
        return await put_back(connection, runtime, request.id, said.code, words, delivery.id)
    if verdict.for_a_person and request.state not in ("done", "failed"):
        await give_to_person(connection, runtime, [request], verdict.why)
    return f"no verdict on the reversal: {verdict.why}"
