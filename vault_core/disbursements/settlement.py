"""Applying evidence to instructions, in order of arrival, set-wise, in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.awaiting import (
    Note,
    Waiting,
    book_resends,
    book_waiting,
    give_to_people,
    note_conversations,
    second_conversation_case,
)
from vault_core.disbursements.evidence import Evidence, SaysPaid
from vault_core.disbursements.float_reports import Told, keep_reports
from vault_core.disbursements.late_payment import LatePayment, stop_for_late_payments
from vault_core.disbursements.paid import book_payments
from vault_core.disbursements.payment import Payment
from vault_core.disbursements.states import AttemptState, State
from vault_core.disbursements.unbooked_payment import UnbookedPayment, keep_unbooked
from vault_core.disbursements.unpaid import Failure, book_failures
from vault_core.disbursements.verdicts import Await, Contradict, Fail, GiveToPerson, Pay, Repeat, SendSameAgain, Verdict, judge
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence about one locked attempt. `event_id` is the delivery, or the person's resolution, that brought it."""

    attempt: Attempt
    evidence: Evidence
    event_id: UUID
    seen_at: datetime
    conversation_id: str | None = None


@dataclass(slots=True)
class _Sorted:
    payments: list[Payment] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    waiting: dict[UUID, Waiting] = field(default_factory=dict)
    resends: dict[UUID, Note] = field(default_factory=dict)
    people: dict[UUID, Note] = field(default_factory=dict)
    conversations: dict[UUID, str] = field(default_factory=dict)
    late: list[LatePayment] = field(default_factory=list)
    unbooked: list[UnbookedPayment] = field(default_factory=list)
    cases: list[NewCase] = field(default_factory=list)
    balances: list[Told] = field(default_factory=list)


async def settle(connection: AsyncConnection, runtime: Runtime, findings: Sequence[Finding]) -> list[str]:
    """Applies `findings` in order and returns, for each, a few words on what it did.

    The first terminal verdict of an attempt wins; later evidence that says otherwise opens a case and books nothing, but a
    payment is kept as the rail's evidence, and one after a failure stops all further ones of the loan. Paid: the disbursement,
    the rail's line, the ledger, the charges and the intended posting to Mifos X, all here. Safe to repeat.
    """
    into = _Sorted()
    effects = [_sort(finding, into) for finding in findings]
    await note_conversations(connection, into.conversations)
    await book_waiting(connection, runtime, list(into.waiting.values()))
    await book_resends(connection, runtime, list(into.resends.values()))
    await give_to_people(connection, runtime, list(into.people.values()))
    await book_failures(connection, runtime, into.failures)
    await book_payments(connection, runtime, into.payments)
    await stop_for_late_payments(connection, into.late)
    await keep_unbooked(connection, into.unbooked)
    await keep_reports(connection, runtime, into.balances)
    await open_cases(connection, runtime.clock, runtime.new_id, into.cases)
    return effects


def _sort(finding: Finding, into: _Sorted) -> str:
    attempt = finding.attempt
    _note_conversation(finding, into)
    _note_balance(finding, into)
    verdict = _as_a_person_has_it(attempt, judge(attempt.as_instruction(), finding.evidence))
    if isinstance(verdict, Pay | Fail | SendSameAgain):
        for open_ones in (into.waiting, into.resends, into.people):
            open_ones.pop(attempt.id, None)
    match verdict:
        case Pay(paid=paid, differs=differs):
            into.payments.append(Payment(attempt, paid, differs, finding.event_id, finding.seen_at))
            attempt.state, attempt.receipt = AttemptState.PAID, paid.receipt
            return f"paid {paid.receipt}" + (f", but {paid.amount} instead of {attempt.amount}" if differs else "")
        case Fail(failed=failed):
            into.failures.append(Failure(attempt, failed, finding.event_id, finding.seen_at))
            attempt.state, attempt.result_code = AttemptState.FAILED, failed.code
            return f"failed with {failed.code} ({failed.result_class})"
        case SendSameAgain(cause=cause):
            into.resends[attempt.id] = Note(attempt, cause)
            return "never arrived: the same instruction goes again"
        case Await(nothing=nothing):
            into.waiting[attempt.id] = Waiting(attempt, nothing)
            return f"no verdict ({nothing.code})"
        case GiveToPerson(cause=cause):
            into.people[attempt.id] = Note(attempt, cause)
            return "given to a person"
        case Repeat():
            return "repeat"
        case Contradict():
            return _contradict(finding, verdict, into)


def _as_a_person_has_it(attempt: Attempt, verdict: Verdict) -> Verdict:
    # Somebody may be settling it by other means: what a person was given, the product does not send again.
    if isinstance(verdict, SendSameAgain) and attempt.disbursement_state is State.NEEDS_REVIEW:
        return GiveToPerson(verdict.cause)
    return verdict


def _note_conversation(finding: Finding, into: _Sorted) -> None:
    seen, attempt = finding.conversation_id, finding.attempt
    if not seen or seen == attempt.conversation_id:
        return
    if attempt.conversation_id is None:
        attempt.conversation_id = seen
        into.conversations[attempt.id] = seen
        return
    into.cases.append(second_conversation_case(attempt, seen, str(finding.event_id)))


def _note_balance(finding: Finding, into: _Sorted) -> None:
    said = finding.evidence
    if not isinstance(said, SaysPaid) or said.receipt == finding.attempt.receipt:
        return  # a repeat tells nothing new
    if said.utility_balance is not None and said.at is not None:
        into.balances.append(
            Told(
                finding.attempt.partner_id,
                said.at,
                said.utility_balance,
                said.working_balance,
                said.charges_paid_balance,
                "result",
                finding.event_id,
                finding.seen_at,
            )
        )


def _contradict(finding: Finding, verdict: Contradict, into: _Sorted) -> str:
    if verdict.receipt is not None and finding.attempt.state is AttemptState.FAILED:
        into.late.append(LatePayment(finding.attempt, verdict.receipt))
    if isinstance(finding.evidence, SaysPaid):
        said = finding.evidence
        at = said.at or finding.seen_at
        into.unbooked.append(UnbookedPayment(finding.attempt.partner_id, said.receipt, said.amount, at, finding.event_id))
    into.cases.append(_contradiction(finding, verdict))
    return f"contradiction: {verdict.what}"


def _contradiction(finding: Finding, verdict: Contradict) -> NewCase:
    attempt = finding.attempt
    # A case a receipt: one that is open already must not swallow the news of yet another payment.
    said = f"receipt {verdict.receipt}" if verdict.receipt is not None else "failed"
    amount = finding.evidence.amount if isinstance(finding.evidence, SaysPaid) else attempt.amount
    return NewCase(
        kind="contradicting_result",
        subject=f"attempt {attempt.id} {said}",
        partner_id=attempt.partner_id,
        amount=amount,
        evidence={**attempt.facts(), "stands": attempt.state, "said": verdict.what, "event_id": str(finding.event_id)},
    )
