"""What people do about one payout: try it now, hold it back, cancel it, release it. Each in one transaction, with its audit."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_cases
from vault_core.database import in_transaction
from vault_core.disbursements.attempts import lock_attempts
from vault_core.disbursements.awaiting import NOT_TAKEN
from vault_core.disbursements.charging import release_charges
from vault_core.disbursements.person_rules import Plan, plan_cancel, plan_hold, plan_release, plan_retry
from vault_core.disbursements.standing import InstructionFacts, Standing, read_standing
from vault_core.disbursements.states import State, require_move
from vault_core.disbursements.unpaid import FAILED_CASE
from vault_core.errors import InvalidInput
from vault_core.runtime import Runtime

_MOVE = text(
    """
    UPDATE disbursements SET state = :state, held_for = :held_for, reason = :reason, due_at = :now, batch_id = NULL,
           needed_cents = NULL
    WHERE id = :id
    """
)
_END = text("UPDATE disbursement_attempts SET state = 'failed', answer = :answer, query_at = NULL WHERE id = :id")
_NO_HOLD = text("UPDATE disbursements SET hold_id = NULL WHERE id = :id")


async def retry_payout(runtime: Runtime, disbursement_id: UUID, *, actor: str, reason: str) -> Plan:
    """Tries the payout now instead of later. Raises Conflict where `plan_retry` forbids it. Audited."""
    return await _act(runtime, disbursement_id, "retried", plan_retry, actor, reason)


async def hold_payout(runtime: Runtime, disbursement_id: UUID, *, actor: str, reason: str) -> Plan:
    """Keeps one loan from being sent until it is released. Raises Conflict if it is on its way or over. Audited."""
    return await _act(runtime, disbursement_id, "held", lambda standing, _now: plan_hold(standing), actor, reason)


async def cancel_payout(runtime: Runtime, disbursement_id: UUID, *, actor: str, reason: str) -> Plan:
    """Ends a loan that was not paid, gives back what was held for it and closes its case. Raises Conflict. Audited."""
    return await _act(runtime, disbursement_id, "cancelled", lambda standing, _now: plan_cancel(standing), actor, reason)


async def release_payout(runtime: Runtime, disbursement_id: UUID, *, actor: str, reason: str) -> Plan:
    """Has a loan examined anew that a person held, cancelled or was given unpaid; closes its case. Raises Conflict. Audited."""
    return await _act(runtime, disbursement_id, "released", lambda standing, _now: plan_release(standing), actor, reason)


async def _act(
    runtime: Runtime, disbursement_id: UUID, act: str, plan_of: Callable[[Standing, datetime], Plan], actor: str, reason: str
) -> Plan:
    if not (reason := reason.strip()):
        raise InvalidInput("a reason is needed: it stands in the story of the payout and in the audit trail")

    async def work(connection: AsyncConnection) -> Plan:
        standing = await read_standing(connection, disbursement_id, lock=True)
        plan = plan_of(standing, runtime.clock.now())
        require_move(standing.state, plan.state, standing.loan)
        if plan.ends is not None:
            await _end(connection, runtime, standing, plan.ends, f"ended by {actor}, never taken by M-Pesa: {reason}")
        await connection.execute(
            _MOVE,
            {
                "id": standing.id,
                "state": plan.state,
                "held_for": plan.held_for,
                "reason": f"{act} by {actor}: {reason}"[:500] if plan.state is not State.READY else None,
                "now": runtime.clock.now(),
            },
        )
        if standing.state is State.NEEDS_REVIEW:
            cases = [(kind, f"disbursement {standing.id}") for kind in (FAILED_CASE, NOT_TAKEN)]
            await close_cases(connection, runtime.clock, cases, resolution=f"{act} by {actor}: {reason}")
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act=f"disbursement.{act}",
            partner_id=standing.partner_id,
            subject=f"disbursement {standing.id}",
            before={"state": standing.state, "held_for": standing.held_for, "reason": standing.reason},
            after={"state": plan.state, "held_for": plan.held_for},
            reason=reason,
        )
        return plan

    return await in_transaction(runtime.engine, work)


async def _end(
    connection: AsyncConnection, runtime: Runtime, standing: Standing, instruction: InstructionFacts, answer: str
) -> None:
    (attempt,) = await lock_attempts(connection, ids=[instruction.id])
    await connection.execute(_END, {"id": attempt.id, "answer": answer[:500]})
    await release_charges(connection, runtime, [attempt])
    await connection.execute(_NO_HOLD, {"id": standing.id})
