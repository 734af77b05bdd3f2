"""The payouts that may be on their way to M-Pesa this moment: written, and not answered yet."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.sending_gate import let_claims_end
from vault_core.money import Money
from vault_core.runtime import Runtime

_LOOK_EVERY = 0.1  # seconds
_MARGIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An instruction that is being sent, or whose process died over it. `over_at`: from then on nobody can be sending it."""

    partner: str
    disbursement_id: UUID
    loan_account_no: str
    originator_conversation_id: str
    amount: Money
    over_at: datetime


_WRITTEN = text(
    """
    SELECT p.name, d.id, d.loan_account_no, a.originator_conversation_id, a.amount_cents, a.send_by
    FROM disbursement_attempts a JOIN disbursements d ON d.id = a.disbursement_id JOIN partners p ON p.id = a.partner_id
    WHERE a.state = 'written' AND a.send_by > :sent_after AND (CAST(:partner_id AS uuid) IS NULL OR a.partner_id = :partner_id)
    ORDER BY a.send_by, a.id
    """
)


def longest_call(runtime: Runtime) -> timedelta:
    """After its `send_by` an instruction is under way for this long at most; then its process has given it up or is dead."""
    return timedelta(seconds=runtime.pace.http_timeout) + _MARGIN


async def under_way(connection: AsyncConnection, runtime: Runtime, partner_id: UUID | None = None) -> list[UnderWay]:
    """What may be on its way now, of one partner or of all."""
    longest = longest_call(runtime)
    rows = await connection.execute(_WRITTEN, {"sent_after": runtime.clock.now() - longest, "partner_id": partner_id})
    return [
        UnderWay(
            row.name,
            row.id,
            row.loan_account_no,
            row.originator_conversation_id,
            Money(row.amount_cents),
            row.send_by + longest,
        )
        for row in rows
    ]


async def await_quiet(runtime: Runtime, *, within: float, partner_id: UUID | None = None) -> list[UnderWay]:
    """After a stop was committed: waits until nothing is under way any more, at most `within` seconds, and returns what still is.

    Empty: no payout that began before is being sent, and none begins. What is returned has no outcome yet: its answer, its result
    or a status question will tell; the stop holds all the same.
    """
    await let_claims_end(runtime)
    until = asyncio.get_running_loop().time() + within
    while True:
        async with runtime.engine.connect() as connection:
            left = await under_way(connection, runtime, partner_id)
        if not left or asyncio.get_running_loop().time() >= until:
            return left
        await asyncio.sleep(_LOOK_EVERY)
