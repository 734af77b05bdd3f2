"""Instructions that were written and, because the loan had changed, never sent: dead without a word of M-Pesa."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.charging import release_charges
from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.disbursements.holding import hold_back
from vault_core.disbursements.loan_check import Changed, NotApproved
from vault_core.disbursements.states import State, require_move
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Unsent:
    """An attempt that no call was ever made for, and what was found instead."""

    attempt: Attempt
    found: Changed | NotApproved


_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = 'failed', answered_at = :now, answer = unsent.answer, query_at = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:answers AS text[])) AS unsent(id, answer) WHERE disbursement_attempts.id = unsent.id
    """
)
_CHANGED = text(
    """
    UPDATE disbursements SET state = 'detected', reason = loan.reason, principal_cents = loan.principal,
           payout_cents = loan.payout, approved_on = loan.approved_on, due_at = :now, batch_id = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[]), CAST(:principals AS bigint[]), CAST(:payouts AS bigint[]),
                CAST(:approvals AS date[])) AS loan(id, reason, principal, payout, approved_on)
    WHERE disbursements.id = loan.id
    """
)
_NO_HOLD = text("UPDATE disbursements SET hold_id = NULL WHERE id = ANY(:ids)")


async def book_unsent(connection: AsyncConnection, runtime: Runtime, unsent: Sequence[Unsent]) -> None:
    """Ends each instruction and gives the charges back. A changed loan is examined anew; one no longer approved is held."""
    if not unsent:
        return
    now = runtime.clock.now()
    await connection.execute(
        _ATTEMPTS,
        {
            "now": now,
            "ids": [item.attempt.id for item in unsent],
            "answers": [f"not sent: {item.found.reason}"[:500] for item in unsent],
        },
    )
    await release_charges(connection, runtime, [item.attempt for item in unsent])
    await connection.execute(_NO_HOLD, {"ids": [item.attempt.disbursement_id for item in unsent]})
    changed = [(item.attempt, item.found) for item in unsent if isinstance(item.found, Changed)]
    gone = [(item.attempt, item.found) for item in unsent if isinstance(item.found, NotApproved)]
    for attempt, _ in changed:
        require_move(attempt.disbursement_state, State.DETECTED, attempt.loan)
    for attempt, _ in gone:
        require_move(attempt.disbursement_state, State.HELD, attempt.loan)
    await connection.execute(
        _CHANGED,
        {
            "now": now,
            "ids": [attempt.disbursement_id for attempt, _ in changed],
            "reasons": [found.reason for _, found in changed],
            "principals": [found.principal.cents for _, found in changed],
            "payouts": [found.payout.cents for _, found in changed],
            "approvals": [found.approved_on for _, found in changed],
        },
    )
    await hold_back(
        connection,
        runtime,
        [(attempt.disbursement_id, Held(HeldFor.NOT_APPROVED, found.reason)) for attempt, found in gone],
    )
