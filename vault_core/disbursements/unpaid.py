"""Booking definite failures, set-wise: the instruction is dead, the charges are given back, the class says what follows."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.awaiting import UNRESOLVED
from vault_core.disbursements.charging import release_charges
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.evidence import SaysFailed
from vault_core.disbursements.float_shortage import note_refusals
from vault_core.disbursements.halting import Fault, stop_for_faults
from vault_core.disbursements.payout_backoff import next_payout_try
from vault_core.disbursements.result_classes import INSUFFICIENT_FLOAT, ResultClass, meaning_of
from vault_core.disbursements.states import State, require_move
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.partners.partner import Partner, load_partners
from vault_core.runtime import Runtime

FAILED_CASE = "payout_failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """An instruction that is dead. `event_id` is the delivery that says so, None for a refusal in the synchronous answer."""

    attempt: Attempt
    failed: SaysFailed
    event_id: UUID | None
    seen_at: datetime

    @property
    def is_fault(self) -> bool:
        """Whether every other payout of the partner would be refused alike."""
        return self.failed.result_class is ResultClass.HALT

    @property
    def is_float_short(self) -> bool:
        """Whether the short code had not the money for it, and so hardly has it for the next."""
        return self.failed.code == INSUFFICIENT_FLOAT and self.failed.result_class is ResultClass.RETRY_LATER

    @property
    def why(self) -> str:
        """What it is and what to do, with M-Pesa's own code and words."""
        meaning = meaning_of(self.failed.code)
        told = f"{meaning.words} " if meaning.result_class is self.failed.result_class else ""
        return f"{told}(M-Pesa {self.failed.code}: {self.failed.text})"[:500]


@dataclass(frozen=True, slots=True)
class Next:
    """What follows a failure: the disbursement's next state, until when it waits, and why."""

    state: State
    held_for: HeldFor | None
    due_at: datetime


_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = 'failed', result_at = :now, result_code = failed.code, result_text = failed.words,
           result_event_id = failed.event_id, query_at = NULL, faults = disbursement_attempts.faults + failed.faults
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:words AS text[]), CAST(:events AS uuid[]),
                CAST(:faults AS integer[])) AS failed(id, code, words, event_id, faults)
    WHERE disbursement_attempts.id = failed.id
    """
)
_DISBURSEMENTS = text(
    """
    UPDATE disbursements SET state = next.state, held_for = next.held_for, due_at = next.due_at,
           hold_id = NULL, batch_id = NULL,
           reason = CASE WHEN next.held_for = 'by_person' THEN disbursements.reason ELSE next.reason END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:held_fors AS text[]), CAST(:reasons AS text[]),
                CAST(:dues AS timestamptz[])) AS next(id, state, held_for, reason, due_at)
    WHERE disbursements.id = next.id
    """
)


async def book_failures(connection: AsyncConnection, runtime: Runtime, failures: Sequence[Failure]) -> None:
    """Books each instruction as dead. By its class the disbursement is tried again later with a new instruction, waits for float
    or its halted partner, or goes to a person with a case; the partner's people are texted. One that a person has, or holds,
    already stays there: they may have paid by other means.
    """  # noqa: D205 - one sentence
    if not failures:
        return
    now = runtime.clock.now()
    partners = await load_partners(connection, list({failure.attempt.partner_id for failure in failures}))
    faults = [Fault(each.attempt.partner_id, each.why, each.attempt.send_by) for each in failures if each.is_fault]
    stopped = await stop_for_faults(connection, runtime, faults)
    steps = [_next(failure, now, runtime, stopped) for failure in failures]
    # Before the charges are given back: claims lock the float and the wallet in this order, too.
    short = sorted((failure for failure in failures if failure.is_float_short), key=lambda failure: failure.seen_at)
    await note_refusals(connection, runtime, {failure.attempt.partner_id: failure.seen_at for failure in short})
    await connection.execute(
        _ATTEMPTS,
        {
            "now": now,
            "ids": [failure.attempt.id for failure in failures],
            "codes": [failure.failed.code for failure in failures],
            "words": [failure.failed.text[:500] for failure in failures],
            "events": [failure.event_id for failure in failures],
            "faults": [int(failure.is_fault) for failure in failures],
        },
    )
    await release_charges(connection, runtime, [failure.attempt for failure in failures])
    await connection.execute(
        _DISBURSEMENTS,
        {
            "ids": [failure.attempt.disbursement_id for failure in failures],
            "states": [step.state for step in steps],
            "held_fors": [step.held_for for step in steps],
            "reasons": [failure.why for failure in failures],
            "dues": [step.due_at for step in steps],
        },
    )
    await _tell_and_open(connection, runtime, failures, steps, partners)
    for failure, step in zip(failures, steps, strict=True):
        failure.attempt.disbursement_state = step.state


def _next(failure: Failure, now: datetime, runtime: Runtime, stopped: AbstractSet[UUID]) -> Next:
    attempt, result_class = failure.attempt, failure.failed.result_class
    if attempt.disbursement_state is State.NEEDS_REVIEW:
        step = Next(State.NEEDS_REVIEW, None, now)
    elif failure.is_fault and attempt.partner_id in stopped:
        step = Next(State.HELD, HeldFor.PARTNER_HALTED, now)
    elif failure.is_float_short and attempt.tries < runtime.pace.payout_retry_tries:
        step = Next(State.HELD, HeldFor.FLOAT_SHORT, now)
    else:
        later = ResultClass.RETRY_LATER if failure.is_fault else result_class  # a first sign: it may pass
        again_at = next_payout_try(now, attempt.tries, later, runtime.pace, runtime.chance)
        step = Next(State.NEEDS_REVIEW, None, now) if again_at is None else Next(State.FAILED, None, again_at)
    if attempt.held_by_person and step.state is not State.NEEDS_REVIEW:
        step = Next(State.HELD, HeldFor.BY_PERSON, now)
    require_move(attempt.disbursement_state, step.state, attempt.loan)
    return step


async def _tell_and_open(
    connection: AsyncConnection,
    runtime: Runtime,
    failures: Sequence[Failure],
    steps: Sequence[Next],
    partners: Mapping[UUID, Partner],
) -> None:
    # A fault of the initiator or short code, or a short float, is told once where it stops the queue, not for each loan it meets.
    told = [failure for failure in failures if not failure.is_fault and not failure.is_float_short]
    await tell_partners(connection, runtime, [_text(failure, partners) for failure in told])
    for failure in failures:
        if failure.attempt.disbursement_state is State.NEEDS_REVIEW:
            await close_case(
                connection,
                runtime.clock,
                kind=UNRESOLVED,
                subject=failure.attempt.case_subject,
                resolution=f"not paid: {failure.why} (evidence {failure.event_id})",
            )
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [_case(failure) for failure, step in zip(failures, steps, strict=True) if step.state is State.NEEDS_REVIEW],
    )


def _text(failure: Failure, partners: Mapping[UUID, Partner]) -> PartnerText:
    attempt, code = failure.attempt, failure.failed.code
    return PartnerText(
        partner=partners[attempt.partner_id],
        fact=f"failed:{attempt.disbursement_id}:{code}",
        template="disbursement_failed",
        values={"account": attempt.loan_account_no, "amount": str(attempt.amount), "reason": f"{meaning_of(code).words}."},
    )


def _case(failure: Failure) -> NewCase:
    attempt = failure.attempt
    return NewCase(
        kind=FAILED_CASE,
        subject=attempt.case_subject,
        partner_id=attempt.partner_id,
        amount=attempt.amount,
        evidence={
            **attempt.facts(),
            "code": failure.failed.code,
            "text": failure.failed.text[:500],
            "why": failure.why,
            "event_id": str(failure.event_id) if failure.event_id else None,
        },
    )
