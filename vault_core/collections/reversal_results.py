"""Reading what M-Pesa tells about reversals: results of the requests, answers to questions about them, queue time-outs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
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
from vault_core.runtime import Runtime

Said = MpesaResult | QueueTimeout


@dataclass(frozen=True, slots=True)
class _About:
    """What a delivery is about: the request itself, or a question about it."""

    request_id: UUID
    question_id: UUID | None


_FIND = text(
    """
    SELECT id AS request_id, CAST(NULL AS uuid) AS question_id, partner_id, originator_conversation_id, conversation_id
    FROM reversal_requests
    WHERE id = ANY(:ids) OR originator_conversation_id = ANY(:originators) OR conversation_id = ANY(:conversations)
    UNION ALL
    SELECT request_id, id, partner_id, originator_conversation_id, conversation_id
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
    read = {delivery.id: _read(delivery) for delivery in deliveries if delivery.path_reference or delivery.body}
    found = await _find(connection, deliveries, read)
    await lock_requests(connection, sorted({about.request_id for about in found.values()}))
    effects: dict[UUID, str] = {}
    for delivery in deliveries:
        if (about := found.get(delivery.id)) is not None:
            effects[delivery.id] = await _apply(connection, runtime, delivery, read[delivery.id], about)
    return effects


def _read(delivery: Delivery) -> Said:
    return parse_queue_timeout(delivery.body) if delivery.purpose == "query_timeout" else parse_result(delivery.body)


async def _find(connection: AsyncConnection, deliveries: Sequence[Delivery], read: dict[UUID, Said]) -> dict[UUID, _About]:
    """By our id in the path or in Occasion, then by M-Pesa's ids of the request or question; of the delivery's own partner."""
    named = {delivery.id: _our_id(delivery, read[delivery.id]) for delivery in deliveries}
    rows = await connection.execute(
        _FIND,
        {
            "ids": [each for each in named.values() if each is not None],
            "originators": [said.originator_conversation_id for said in read.values() if said.originator_conversation_id],
            "conversations": [said.conversation_id for said in read.values() if said.conversation_id],
        },
    )
    by_key: dict[Any, Row[Any]] = {}
    for row in rows:
        keys = (row.question_id or row.request_id, row.originator_conversation_id, row.conversation_id)
        by_key |= {key: row for key in keys if key is not None}
    found: dict[UUID, _About] = {}
    for delivery in deliveries:
        said = read[delivery.id]
        keys = (named[delivery.id], said.originator_conversation_id, said.conversation_id)
        rows_found = [by_key[key] for key in keys if key is not None and key in by_key]
        if rows_found and rows_found[0].partner_id == delivery.partner_id:
            found[delivery.id] = _About(rows_found[0].request_id, rows_found[0].question_id)
    return found


def _our_id(delivery: Delivery, said: Said) -> UUID | None:
    occasion = said.reference_items.get("Occasion") if isinstance(said, MpesaResult) else None
    for written in (delivery.path_reference, occasion):
        try:
            return UUID(hex=written or "")
        except ValueError:
            continue
    return None


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
