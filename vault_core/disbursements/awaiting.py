"""Evidence that is no verdict: what stays open, what goes again under its own id, what a person must settle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.evidence import Ask, SaysNothing
from vault_core.disbursements.states import State, require_move
from vault_core.runtime import Runtime
from vault_core.settings import Pace

# A result often follows a queue time-out closely; asking at once would only meet "still under way".
_SOON = timedelta(seconds=30)

UNRESOLVED = "payout_unresolved"
NOT_TAKEN = "payout_not_taken"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt about which a message said nothing certain."""

    attempt: Attempt
    nothing: SaysNothing


@dataclass(frozen=True, slots=True)
class Note:
    """An attempt and the cause for which it goes again, or to a person."""

    attempt: Attempt
    cause: str


_CONVERSATIONS = text(
    """
    UPDATE disbursement_attempts SET conversation_id = coalesce(disbursement_attempts.conversation_id, seen.conversation_id)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:seen AS text[])) AS seen(id, conversation_id)
    WHERE disbursement_attempts.id = seen.id
    """
)
_WAIT_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = 'unknown', maybe_seen = true, result_code = wait.code, result_text = wait.words,
           query_at = wait.query_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:words AS text[]), CAST(:query_ats AS timestamptz[]))
         AS wait(id, code, words, query_at)
    WHERE disbursement_attempts.id = wait.id
    """
)
_MOVE = text(
    """
    UPDATE disbursements SET state = CAST(:state AS text), held_for = NULL, reason = move.reason, due_at = :due_at,
           batch_id = CASE WHEN CAST(:state AS text) = 'ready' THEN NULL ELSE batch_id END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS move(id, reason)
    WHERE disbursements.id = move.id
    """
)
_RESEND_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = 'refused', maybe_seen = true, answer = 'never arrived', query_at = NULL
    WHERE id = ANY(:ids)
    """
)
_STOP_ASKING = text("UPDATE disbursement_attempts SET state = 'unknown', maybe_seen = true, query_at = NULL WHERE id = ANY(:ids)")


def query_time(ask: Ask, now: datetime, pace: Pace) -> datetime:
    """When to ask about a payout next."""
    if ask is Ask.SOON:
        return now + min(_SOON, timedelta(seconds=pace.status_query_after))
    return now + timedelta(seconds=pace.status_query_spacing)


async def note_conversations(connection: AsyncConnection, seen: Mapping[UUID, str]) -> None:
    """Writes M-Pesa's own id of each attempt, once."""
    if seen:
        await connection.execute(_CONVERSATIONS, {"ids": list(seen), "seen": list(seen.values())})


def second_conversation_case(attempt: Attempt, seen: str, source: str) -> NewCase:
    """M-Pesa's own id is written once; a second one for the same instruction may be a second payment."""
    return NewCase(
        kind="second_conversation_id",
        subject=attempt.case_subject,
        partner_id=attempt.partner_id,
        amount=attempt.amount,
        evidence={**attempt.facts(), "second": seen, "source": source},
    )


async def book_waiting(connection: AsyncConnection, runtime: Runtime, waiting: Sequence[Waiting]) -> None:
    """Marks the attempts unknown and plans the next question. One that a person has, or holds, keeps that state."""
    now = runtime.clock.now()
    asked = [(wait, wait.nothing.ask) for wait in waiting if wait.nothing.ask is not None]
    if asked:
        await connection.execute(
            _WAIT_ATTEMPTS,
            {
                "ids": [wait.attempt.id for wait, _ in asked],
                "codes": [wait.nothing.code for wait, _ in asked],
                "words": [wait.nothing.text[:500] for wait, _ in asked],
                "query_ats": [query_time(ask, now, runtime.pace) for _, ask in asked],
            },
        )
        moved = [wait for wait, _ in asked if not _is_with_a_person(wait.attempt)]
        await move(
            connection, State.UNKNOWN, [Note(wait.attempt, f"{wait.nothing.code}: {wait.nothing.text}") for wait in moved], now
        )
    await open_cases(connection, runtime.clock, runtime.new_id, [_alarm(wait) for wait in waiting if wait.nothing.alarm])


async def book_resends(connection: AsyncConnection, runtime: Runtime, resends: Sequence[Note]) -> None:
    """The same instruction goes again, under its own id: ready for the next batch, or once the person who holds it lets it."""
    if not resends:
        return
    await connection.execute(_RESEND_ATTEMPTS, {"ids": [note.attempt.id for note in resends]})
    await move(connection, State.READY, [note for note in resends if not note.attempt.held_by_person], runtime.clock.now())


async def give_to_people(connection: AsyncConnection, runtime: Runtime, notes: Sequence[Note]) -> None:
    """No more questions: a case with everything known. The attempt stays open, so a late result still counts."""
    if not notes:
        return
    await connection.execute(_STOP_ASKING, {"ids": [note.attempt.id for note in notes]})
    waiting = [note for note in notes if note.attempt.disbursement_state is not State.NEEDS_REVIEW]
    await move(connection, State.NEEDS_REVIEW, waiting, runtime.clock.now())
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCase(
                kind=UNRESOLVED,
                subject=note.attempt.case_subject,
                partner_id=note.attempt.partner_id,
                amount=note.attempt.amount,
                evidence={
                    **note.attempt.facts(),
                    "cause": note.cause,
                    "do": "look the payout up in the M-Pesa portal by its originator conversation id or the client's number",
                },
            )
            for note in notes
        ],
    )


async def move(connection: AsyncConnection, state: State, notes: Sequence[Note], due_at: datetime) -> None:
    """Moves disbursements to `state` with the cause as their reason. Raises Conflict for a move that the table forbids."""
    for note in notes:
        require_move(note.attempt.disbursement_state, state, note.attempt.loan)
        note.attempt.disbursement_state = state
    if notes:
        await connection.execute(
            _MOVE,
            {
                "state": state,
                "due_at": due_at,
                "ids": [note.attempt.disbursement_id for note in notes],
                "reasons": [note.cause[:500] for note in notes],
            },
        )


def _is_with_a_person(attempt: Attempt) -> bool:
    return attempt.disbursement_state is State.NEEDS_REVIEW or attempt.held_by_person


def _alarm(wait: Waiting) -> NewCase:
    return NewCase(
        kind="result_not_understood",
        subject=wait.attempt.case_subject,
        partner_id=wait.attempt.partner_id,
        amount=wait.attempt.amount,
        evidence={**wait.attempt.facts(), "code": wait.nothing.code, "text": wait.nothing.text[:500]},
    )
