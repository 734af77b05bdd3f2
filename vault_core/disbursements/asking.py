"""Asking M-Pesa many written questions at once and keeping what the gateway said; which of them an answer is to."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import QueryAck
from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout
from vault_core.database import in_transaction
from vault_core.disbursements.attempts import attempt_id_in
from vault_core.inbox.delivery import Delivery
from vault_core.outcome import Accepted, Outcome, Refused, Unknown
from vault_core.runtime import Runtime

Q = TypeVar("Q")
Noted = tuple[UUID, str, str | None, str | None]  # the question's id, the outcome in words, M-Pesa's two ids of it

_AT_ONCE = 20


async def ask_all(
    runtime: Runtime, questions: Sequence[Q], ask: Callable[[Q], Awaitable[Noted]], record_outcomes: TextClause
) -> int:
    """Asks each of the committed `questions`, several at a time, records the outcomes together, returns how many."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(question: Q) -> Noted:
        async with turns:
            return await ask(question)

    told = await asyncio.gather(*(one(question) for question in questions))

    async def record(connection: AsyncConnection) -> None:
        await connection.execute(
            record_outcomes,
            {
                "ids": [question_id for question_id, _, _, _ in told],
                "outcomes": [outcome for _, outcome, _, _ in told],
                "originators": [originator for _, _, originator, _ in told],
                "conversations": [conversation for _, _, _, conversation in told],
            },
        )

    if told:
        await in_transaction(runtime.engine, record)
    return len(told)


def in_words(question_id: UUID, outcome: Outcome[QueryAck]) -> Noted:
    """What is kept of the gateway's answer to a question."""
    match outcome:
        case Accepted(value=ack):
            return question_id, "accepted", ack.originator_conversation_id or None, ack.conversation_id
        case Refused(code=code, reason=reason):
            return question_id, f"refused {code}: {reason}"[:500], None, None
        case Unknown(cause=cause):
            return question_id, f"unknown: {cause}"[:500], None, None


async def answered_questions(
    connection: AsyncConnection, find: TextClause, read: Sequence[tuple[Delivery, MpesaResult | QueueTimeout]]
) -> dict[UUID, Row[Any]]:
    """The question, as `find` finds it, that each delivery answers: by our reference in its path or in Occasion, then by its ids.

    A delivery at another partner's address answers none.
    """
    if not read:
        return {}
    named = {delivery.id: _our_reference(delivery, said) for delivery, said in read}
    rows = await connection.execute(
        find,
        {
            "ids": [reference for reference in named.values() if reference],
            "originators": [said.originator_conversation_id for _, said in read if said.originator_conversation_id],
            "conversations": [said.conversation_id for _, said in read if said.conversation_id],
        },
    )
    by_key: dict[Any, Row[Any]] = {}
    for row in rows:
        by_key |= {key: row for key in (row.id, row.originator_conversation_id, row.conversation_id) if key is not None}
    found = {}
    for delivery, said in read:
        keys = (named[delivery.id], said.originator_conversation_id, said.conversation_id)
        rows_found = [by_key[key] for key in keys if key is not None and key in by_key]
        if rows_found and rows_found[0].partner_id == delivery.partner_id:
            found[delivery.id] = rows_found[0]
    return found


def _our_reference(delivery: Delivery, said: MpesaResult | QueueTimeout) -> UUID | None:
    named = attempt_id_in(delivery.path_reference)
    if named is None and isinstance(said, MpesaResult):
        named = attempt_id_in(said.reference_items.get("Occasion"))
    return named
