"""Asking M-Pesa many written questions at once, and keeping what the gateway said. The answers come later, by callback."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import QueryAck
from vault_core.database import in_transaction
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
