"""Recording how sending went, many at a time. What a result has settled meanwhile is not overwritten."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.daraja import B2CAck
from vault_core.clients.daraja_answers import SLOW_DOWN
from vault_core.database import in_transaction
from vault_core.disbursements.attempts import Attempt, lock_attempts
from vault_core.disbursements.awaiting import NOT_TAKEN, second_conversation_case
from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.disbursements.evidence import SaysFailed
from vault_core.disbursements.halting import Fault, stop_for_faults
from vault_core.disbursements.instructions import Claimed
from vault_core.disbursements.loan_check import Changed, NotApproved
from vault_core.disbursements.result_classes import ResultClass
from vault_core.disbursements.send_pace import slow_down
from vault_core.disbursements.states import AttemptState, State, require_move
from vault_core.disbursements.unpaid import Failure, book_failures
from vault_core.disbursements.unsent import Unsent, book_unsent
from vault_core.outbox.retry_schedule import next_wait
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one claimed instruction: M-Pesa's answer, or what kept it from being sent."""

    claimed: Claimed
    outcome: Outcome[B2CAck] | Changed | NotApproved | Held


@dataclass(frozen=True, slots=True)
class _Step:
    attempt: Attempt
    attempt_state: AttemptState
    state: State
    answer: str
    conversation_id: str | None = None
    wait: timedelta | None = None  # of the next try; None: it is asked about instead
    held_for: HeldFor | None = None
    fault: bool = False  # M-Pesa refused it for a cause that every next one would meet
    is_try: bool = True


_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = step.state, answered_at = :now, answer = step.answer,
           conversation_id = coalesce(disbursement_attempts.conversation_id, step.conversation_id), query_at = step.query_at,
           maybe_seen = maybe_seen OR step.state = 'unknown', faults = disbursement_attempts.faults + step.faults,
           sends = disbursement_attempts.sends - CASE WHEN step.is_try THEN 0 ELSE 1 END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:answers AS text[]), CAST(:conversations AS text[]),
                CAST(:query_ats AS timestamptz[]), CAST(:faults AS integer[]), CAST(:are_tries AS boolean[]))
         AS step(id, state, answer, conversation_id, query_at, faults, is_try)
    WHERE disbursement_attempts.id = step.id
    """
)
_DISBURSEMENTS = text(
    """
    UPDATE disbursements SET state = step.state, held_for = step.held_for, reason = step.reason, due_at = step.due_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:held_fors AS text[]), CAST(:reasons AS text[]),
                CAST(:dues AS timestamptz[])) AS step(id, state, held_for, reason, due_at)
    WHERE disbursements.id = step.id
    """
)
_LATE_ANSWER = text(
    """
    UPDATE disbursement_attempts SET answered_at = :now, answer = late.answer,
           conversation_id = coalesce(disbursement_attempts.conversation_id, late.conversation_id)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:answers AS text[]), CAST(:conversations AS text[]))
         AS late(id, answer, conversation_id)
    WHERE disbursement_attempts.id = late.id
    """
)


async def record_answers(runtime: Runtime, answers: Sequence[Answered]) -> None:
    """Records `answers` in one transaction."""

    async def work(connection: AsyncConnection) -> None:
        locked = {attempt.id: attempt for attempt in await lock_attempts(connection, ids=[a.claimed.attempt_id for a in answers])}
        pairs = [(locked[answer.claimed.attempt_id], answer) for answer in answers]
        fresh = [(attempt, answer) for attempt, answer in pairs if attempt.state is AttemptState.WRITTEN]
        await _write_late(connection, runtime, [pair for pair in pairs if pair[0].state is not AttemptState.WRITTEN])
        stopped = await stop_for_faults(connection, runtime, [_fault(*pair) for pair in fresh if _is_fault(pair[1])])
        await _write_steps(
            connection,
            runtime,
            [_step(attempt, answer.outcome, runtime, stopped) for attempt, answer in fresh if not _is_over(answer)],
        )
        await book_failures(
            connection, runtime, [_failure(attempt, answer, runtime) for attempt, answer in fresh if _is_failure(answer)]
        )
        for partner_id in sorted({attempt.partner_id for attempt, answer in pairs if _is_too_fast(answer)}):
            await slow_down(connection, runtime, partner_id)
        await book_unsent(connection, runtime, [unsent for pair in fresh if (unsent := _unsent(*pair)) is not None])

    if answers:
        await in_transaction(runtime.engine, work)


def _is_too_fast(answer: Answered) -> bool:
    return isinstance(answer.outcome, Refused | Unknown) and answer.outcome.code == SLOW_DOWN


def _is_failure(answer: Answered) -> bool:
    return isinstance(answer.outcome, Refused) and answer.outcome.refusal is Refusal.TERMINAL


def _is_fault(answer: Answered) -> bool:
    return isinstance(answer.outcome, Refused) and answer.outcome.refusal is Refusal.HALT


def _fault(attempt: Attempt, answer: Answered) -> Fault:
    return Fault(attempt.partner_id, _words(answer)[:500], attempt.send_by)


def _is_over(answer: Answered) -> bool:
    return _is_failure(answer) or (isinstance(answer.outcome, Changed | NotApproved) and not answer.claimed.maybe_seen)


def _failure(attempt: Attempt, answer: Answered, runtime: Runtime) -> Failure:
    assert isinstance(answer.outcome, Refused)  # noqa: S101 - chosen for it
    failed = SaysFailed(answer.outcome.code, answer.outcome.reason, ResultClass.TERMINAL)
    return Failure(attempt, failed, None, runtime.clock.now())


def _unsent(attempt: Attempt, answer: Answered) -> Unsent | None:
    if isinstance(answer.outcome, Changed | NotApproved) and _is_over(answer):
        return Unsent(attempt, answer.outcome)
    return None


def _step(
    attempt: Attempt, outcome: Outcome[B2CAck] | Changed | NotApproved | Held, runtime: Runtime, stopped: AbstractSet[UUID]
) -> _Step:
    match outcome:
        case Accepted(value=ack):
            return _Step(attempt, AttemptState.ACCEPTED, State.ACCEPTED, "accepted", conversation_id=ack.conversation_id)
        case Held(held_for=held_for, reason=reason):
            return _Step(attempt, AttemptState.REFUSED, State.HELD, reason, wait=timedelta(0), held_for=held_for, is_try=False)
        case Refused(refusal=refusal):
            answer, fault = f"{outcome.code}: {outcome.reason}", refusal is Refusal.HALT
            step = _Step(attempt, AttemptState.REFUSED, State.REFUSED, answer, wait=timedelta(0), fault=fault)
            if fault and attempt.partner_id in stopped:
                return replace(step, state=State.HELD, held_for=HeldFor.PARTNER_HALTED)
            if attempt.sends >= runtime.pace.outbox_max_tries:
                return replace(step, state=State.NEEDS_REVIEW)
            return replace(step, wait=next_wait(attempt.sends, runtime.pace, runtime.chance))
        case Unknown(cause=cause):
            return _Step(attempt, AttemptState.UNKNOWN, State.UNKNOWN, cause)
        case Changed() | NotApproved():
            # Not sent again, but an earlier sending of this id may have reached M-Pesa: only evidence can end it.
            return _Step(attempt, AttemptState.UNKNOWN, State.UNKNOWN, f"not sent again: {outcome.reason}")


async def _write_steps(connection: AsyncConnection, runtime: Runtime, steps: Sequence[_Step]) -> None:
    if not steps:
        return
    now = runtime.clock.now()
    ask_at = now + timedelta(seconds=runtime.pace.status_query_after)
    await connection.execute(
        _ATTEMPTS,
        {
            "now": now,
            "ids": [step.attempt.id for step in steps],
            "states": [step.attempt_state for step in steps],
            "answers": [step.answer[:500] for step in steps],
            "conversations": [step.conversation_id for step in steps],
            "query_ats": [ask_at if step.wait is None else None for step in steps],
            "faults": [int(step.fault) for step in steps],
            "are_tries": [step.is_try for step in steps],
        },
    )
    # A person may have taken the disbursement over meanwhile; then only the instruction is written.
    ours = [step for step in steps if step.attempt.disbursement_state is State.SENDING]
    for step in ours:
        require_move(State.SENDING, step.state, step.attempt.loan)
    await connection.execute(
        _DISBURSEMENTS,
        {
            "ids": [step.attempt.disbursement_id for step in ours],
            "states": [step.state for step in ours],
            "held_fors": [step.held_for for step in ours],
            "reasons": [None if step.state is State.ACCEPTED else step.answer[:500] for step in ours],
            "dues": [now + (step.wait or timedelta(0)) for step in ours],
        },
    )
    await open_cases(
        connection, runtime.clock, runtime.new_id, [_not_taken(step) for step in ours if step.state is State.NEEDS_REVIEW]
    )


async def _write_late(connection: AsyncConnection, runtime: Runtime, pairs: Sequence[tuple[Attempt, Answered]]) -> None:
    if not pairs:
        return
    seen = {attempt.id: _conversation(answer) for attempt, answer in pairs}
    await connection.execute(
        _LATE_ANSWER,
        {
            "now": runtime.clock.now(),
            "ids": [attempt.id for attempt, _ in pairs],
            "answers": [_words(answer)[:500] for _, answer in pairs],
            "conversations": [seen[attempt.id] for attempt, _ in pairs],
        },
    )
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            second_conversation_case(attempt, second, "the synchronous answer")
            for attempt, _ in pairs
            if (second := seen[attempt.id]) and attempt.conversation_id and second != attempt.conversation_id
        ],
    )


def _conversation(answer: Answered) -> str | None:
    return answer.outcome.value.conversation_id if isinstance(answer.outcome, Accepted) else None


def _words(answer: Answered) -> str:
    match answer.outcome:
        case Accepted():
            return "accepted"
        case Refused(code=code, reason=reason):
            return f"{code}: {reason}"
        case Unknown(cause=cause):
            return cause
        case Changed() | NotApproved() | Held():
            return f"not sent: {answer.outcome.reason}"


def _not_taken(step: _Step) -> NewCase:
    return NewCase(
        kind=NOT_TAKEN,
        subject=step.attempt.case_subject,
        partner_id=step.attempt.partner_id,
        amount=step.attempt.amount,
        evidence={**step.attempt.facts(), "answer": step.answer[:500]},
    )
