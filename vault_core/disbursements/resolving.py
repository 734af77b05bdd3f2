"""Settling by a person's evidence what M-Pesa left open; above a limit only when another person approves.

The evidence goes the way of an M-Pesa result (settlement.py): books, charges, posting to Mifos X and texts follow alike, and a
result that still comes and says otherwise opens a case as ever.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_cases
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.amount_difference import difference_case, make_good
from vault_core.disbursements.attempts import Attempt, lock_attempts
from vault_core.disbursements.charging import ToHold, hold_charges
from vault_core.disbursements.evidence import Evidence, SaysFailed, SaysPaid
from vault_core.disbursements.payout_quote import payout_quote
from vault_core.disbursements.resolution_rows import (
    Resolution,
    list_proposals,
    open_proposal,
    read_resolution,
    write_decision,
    write_proposal,
)
from vault_core.disbursements.resolution_rules import (
    Seen,
    SeenPaid,
    SeenUnpaid,
    Statement,
    checked_evidence,
    needs_second_person,
    stated,
)
from vault_core.disbursements.result_classes import NOT_PAID, ResultClass
from vault_core.disbursements.settlement import Finding, settle
from vault_core.disbursements.standing import InstructionFacts, Standing, read_standing
from vault_core.disbursements.states import AttemptState, State, require_move
from vault_core.disbursements.taking_back import take_back
from vault_core.disbursements.unbooked_payment import forget_unbooked
from vault_core.disbursements.under_way import longest_call
from vault_core.disbursements.unpaid import FAILED_CASE
from vault_core.errors import Conflict, InsufficientFunds, InvalidInput
from vault_core.ledger.holds import Short
from vault_core.money import Money
from vault_core.partners.partner import load_partner
from vault_core.partners.system_fees import load_system_fees
from vault_core.runtime import Runtime
from vault_core.wallets.charges import load_tariffs

__all__ = ["Resolution", "approve_resolution", "list_proposals", "reject_resolution", "resolve_payout"]

_BY_PERSON = "BY_PERSON"


_PRODUCT = text("SELECT product_id FROM disbursements WHERE id = :id")
_REOPEN = text("UPDATE disbursement_attempts SET state = 'unknown', receipt = NULL WHERE id = :id")
_TO_PERSON = text(
    """
    UPDATE disbursements SET state = 'needs_review', held_for = NULL, reason = NULL, batch_id = NULL, hold_id = :hold
    WHERE id = :id
    """
)
_UNMARK = text("UPDATE disbursement_attempts SET receipt = NULL WHERE id = :id")
_WHY = text("UPDATE disbursements SET reason = :reason WHERE id = :id")


async def resolve_payout(
    runtime: Runtime, disbursement_id: UUID, seen: Seen, *, evidence: str, actor: str, number: int | None = None
) -> Resolution:
    """Applies what a person saw, or keeps it as a proposal for a second one.

    That is needed when the amount is above `resolve_alone_up_to`, and always against what is booked: a payment that proves not to
    have been made is taken back, a failure that proves to have been paid is booked.

    `number`: which instruction, where the disbursement has several. Raises what `resolution_rules` raises, Conflict for a receipt
    that stands for another payment or while a proposal waits, InsufficientFunds when the wallet lacks the charges of a payment
    that had been booked as failed. Audited.
    """
    evidence = checked_evidence(evidence)

    async def work(connection: AsyncConnection) -> Resolution:
        standing = await read_standing(connection, disbursement_id, lock=True)
        if standing.proposed_by is not None:
            raise Conflict(f"{standing.loan}: the word of {standing.proposed_by} waits for a second person: approve or reject it")
        statement = stated(standing, seen, runtime.clock.now(), longest_call(runtime), number=number)
        alone_up_to = Money.shillings(runtime.pace.resolve_alone_up_to)
        second = needs_second_person(statement, alone_up_to)
        made = await write_proposal(
            connection, runtime, standing, statement, evidence=evidence, actor=actor, second_person=second
        )
        await _audit(connection, runtime, standing, "disbursement.resolution_proposed", actor, evidence, _facts(made))
        if not second:
            await _apply(connection, runtime, standing, statement, made, actor)
        return await read_resolution(connection, made.id)

    return await in_transaction(runtime.engine, work)


async def approve_resolution(runtime: Runtime, disbursement_id: UUID, *, actor: str) -> Resolution:
    """Applies the proposal that waits for a second person, who must not be the first. Raises NotFound, Conflict. Audited.

    If evidence of M-Pesa has settled the instruction meanwhile, nothing is applied: the proposal ends as 'overtaken'.
    """

    async def work(connection: AsyncConnection) -> Resolution:
        standing = await read_standing(connection, disbursement_id, lock=True)
        proposed = await open_proposal(connection, standing)
        if actor == proposed.proposed_by:
            raise Conflict(f"{actor} proposed it: another login must approve it")
        instruction = next(one for one in standing.instructions if one.id == proposed.attempt_id)
        why_not, statement = _still_stands(proposed, standing, instruction, runtime)
        if statement is None:
            await write_decision(connection, runtime, proposed.id, "overtaken", actor, why_not)
            await _audit(connection, runtime, standing, "disbursement.resolution_overtaken", actor, why_not, _facts(proposed))
        else:
            await _apply(connection, runtime, standing, statement, proposed, actor)
        return await read_resolution(connection, proposed.id)

    return await in_transaction(runtime.engine, work)


async def reject_resolution(runtime: Runtime, disbursement_id: UUID, *, actor: str, reason: str) -> Resolution:
    """Ends the proposal that waits for a second person; its proposer may withdraw it, too. Raises NotFound. Audited."""
    if not (reason := reason.strip()):
        raise InvalidInput("a reason is needed: the proposer reads it")

    async def work(connection: AsyncConnection) -> Resolution:
        standing = await read_standing(connection, disbursement_id, lock=True)
        proposed = await open_proposal(connection, standing)
        await write_decision(connection, runtime, proposed.id, "rejected", actor, reason)
        await _audit(
            connection, runtime, standing, "disbursement.resolution_rejected", actor, reason, {"by": proposed.proposed_by}
        )
        return await read_resolution(connection, proposed.id)

    return await in_transaction(runtime.engine, work)


async def _apply(
    connection: AsyncConnection, runtime: Runtime, standing: Standing, statement: Statement, made: Resolution, actor: str
) -> None:
    (attempt,) = await lock_attempts(connection, ids=[made.attempt_id])
    cases = [(FAILED_CASE, attempt.case_subject), ("result_not_understood", attempt.case_subject)]
    if attempt.state is AttemptState.FAILED and attempt.receipt is not None:
        await forget_unbooked(connection, attempt.partner_id, attempt.receipt)
        cases.append(("contradicting_result", f"attempt {attempt.id} receipt {attempt.receipt}"))
    words = f"looked up by {made.proposed_by}: {made.evidence}"
    if attempt.state is AttemptState.FAILED and statement.paid is None:
        await connection.execute(_UNMARK, {"id": attempt.id})
        await connection.execute(_WHY, {"id": standing.id, "reason": f"not paid after all, {words}"[:500]})
        effect = "its failure stands: `vault disbursements retry`, `release` or `cancel`"
    elif attempt.state is AttemptState.PAID and statement.paid is not None:
        assert standing.paid_amount is not None  # noqa: S101 - only then is a booked payment stated again
        effect = await make_good(connection, runtime, attempt, standing.paid_amount, resolution=made.id, words=words)
        cases.append(difference_case(attempt))
    else:
        if attempt.state is AttemptState.FAILED:
            attempt = await _reopened(connection, runtime, attempt, statement)
        elif attempt.state is AttemptState.PAID:
            attempt = await take_back(connection, runtime, attempt, resolution=made.id, words=f"not paid, {words}")
        (effect,) = await settle(
            connection, runtime, [Finding(attempt, _evidence(statement, words), made.id, runtime.clock.now())]
        )
    cases = [case for case in cases if statement.paid is not None or case[0] != FAILED_CASE]
    await close_cases(connection, runtime.clock, cases, resolution=words[:500])
    await write_decision(connection, runtime, made.id, "applied", actor, None, effect)
    await _audit(connection, runtime, standing, "disbursement.resolved", actor, made.evidence, _facts(made) | {"effect": effect})


def _evidence(statement: Statement, words: str) -> Evidence:
    if statement.paid is None:
        return SaysFailed(NOT_PAID, words, ResultClass.RETRY_LATER)
    receipt, amount, at = statement.paid
    return SaysPaid(_BY_PERSON, words, receipt, amount, at)


async def _reopened(connection: AsyncConnection, runtime: Runtime, attempt: Attempt, statement: Statement) -> Attempt:
    """The attempt with its failure no longer believed, its charges held again, ready to be judged by the evidence."""
    partner = await load_partner(connection, id=attempt.partner_id)
    assert statement.paid is not None  # noqa: S101 - chosen for it
    _, amount, at = statement.paid
    name = runtime.sealer.open_text(
        attempt.client_name_sealed, bound_to=f"disbursements:{attempt.disbursement_id}:client_name_sealed"
    ) if attempt.client_name_sealed is not None else ""  # fmt: skip
    quoted = payout_quote(
        await load_tariffs(connection),
        partner,
        (await load_system_fees(connection, [partner.id]))[partner.id],
        business_day(at),
        payout=amount,
        product_id=(await connection.execute(_PRODUCT, {"id": attempt.disbursement_id})).scalar_one(),
        client_name=name,
        loan_account_no=attempt.loan_account_no,
    )
    held = (await hold_charges(connection, runtime, partner, [ToHold(attempt.disbursement_id, quoted, attempt.taken_back)]))[
        attempt.disbursement_id
    ]
    if isinstance(held, Short):
        raise InsufficientFunds(
            f"the charges of this payment are {held.needed} and the wallet of {partner.name} has {held.available}: top it up, "
            "then resolve again (`vault wallet top-up`)"
        )
    require_move(attempt.disbursement_state, State.NEEDS_REVIEW, attempt.loan)
    await connection.execute(_REOPEN, {"id": attempt.id})
    await connection.execute(_TO_PERSON, {"id": attempt.disbursement_id, "hold": held})
    (reopened,) = await lock_attempts(connection, ids=[attempt.id])
    return reopened


def _still_stands(
    proposed: Resolution, standing: Standing, instruction: InstructionFacts, runtime: Runtime
) -> tuple[str, Statement | None]:
    """The proposal's statement if nothing settled the instruction since; else None, with why."""
    settled = f"M-Pesa settled it meanwhile: {instruction.state}, {instruction.receipt or instruction.result_code}"
    if instruction.result_at is not None and instruction.result_at > proposed.proposed_at:
        return settled, None
    seen = SeenUnpaid() if proposed.receipt is None else SeenPaid(proposed.receipt, proposed.amount, proposed.paid_at)
    try:
        statement = stated(standing, seen, runtime.clock.now(), longest_call(runtime), number=instruction.number)
    except (Conflict, InvalidInput) as error:
        return str(error), None
    # Who stated it about an open instruction stated nothing against what is booked by now.
    return ("", statement) if statement.overturns == proposed.overturns else (settled, None)


def _facts(made: Resolution) -> dict[str, Any]:
    facts = {"instruction": made.number, "verdict": made.verdict, "receipt": made.receipt, "amount": str(made.amount)}
    return facts if made.overturns is None else facts | {"overturns": made.overturns}


async def _audit(
    connection: AsyncConnection,
    runtime: Runtime,
    standing: Standing,
    act: str,
    actor: str,
    reason: str,
    after: dict[str, Any],
) -> None:
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=act,
        partner_id=standing.partner_id,
        subject=f"disbursement {standing.id}",
        before={"state": standing.state},
        after=after,
        reason=reason,
    )
