"""Holding disbursements back, with the reason, until the next look at them."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.runtime import Runtime
from vault_core.settings import Pace

# Causes that are seen in our own tables are looked at often; those in the partner's Mifos X cost it a read each.
_OURS = frozenset(
    {
        HeldFor.WALLET_SHORT,
        HeldFor.FLOAT_SHORT,
        HeldFor.UNRESOLVED_PAYOUT,
        HeldFor.PARTNER_HALTED,
        HeldFor.PRODUCT_DISABLED,
        HeldFor.SENDING_HALTED,
        HeldFor.MIFOS_AWAY,
    }
)
_HOLD = text(
    """
    UPDATE disbursements SET state = 'held', held_for = held.cause, reason = held.reason, due_at = held.due_at,
           needed_cents = held.needed, batch_id = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:causes AS text[]), CAST(:reasons AS text[]), CAST(:dues AS timestamptz[]),
                CAST(:needs AS bigint[])) AS held(id, cause, reason, due_at, needed)
    WHERE disbursements.id = held.id
    """
)


def next_look(held_for: HeldFor, pace: Pace) -> timedelta:
    """How long a held disbursement waits before it is looked at again."""
    if held_for in {HeldFor.TRANCHE_NOT_DUE, HeldFor.NOT_DUE}:
        return timedelta(seconds=pace.tranche_look_every)
    return timedelta(seconds=pace.wallet_retry_after if held_for in _OURS else pace.poll_every)


async def hold_back(connection: AsyncConnection, runtime: Runtime, held: Sequence[tuple[UUID, Held]]) -> None:
    """Holds each (id, cause) of the caller's locked disbursements."""
    if not held:
        return
    now = runtime.clock.now()
    await connection.execute(
        _HOLD,
        {
            "ids": [disbursement_id for disbursement_id, _ in held],
            "causes": [cause.held_for for _, cause in held],
            "reasons": [cause.reason for _, cause in held],
            "needs": [cause.needed.cents if cause.needed is not None else None for _, cause in held],
            "dues": [now + next_look(cause.held_for, runtime.pace) for _, cause in held],
        },
    )
