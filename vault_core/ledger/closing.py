"""Closing periods: everything effective before an instant becomes final, and the balances as of that instant are kept.

What happened outside in a closed period and is told of later is booked at the first instant of the open one; what a person dates
there is refused (`Posting.carried`). The database holds to both, whoever writes (vault_core/ledger/functions/50_closing.sql).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.ledger.refusals import ledger_refusals
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Closing:
    """A closing: `transactions` became final by it.

    `debits` is the trial balance's total at its instant; the credits come to the same.
    """

    number: int
    closed_before: datetime
    closed_at: datetime
    closed_by: str
    transactions: int
    debits: Money


_CLOSE = text("SELECT ledger_close(:now, :before, :actor)")
_CLOSINGS = text(
    """
    SELECT number, closed_before, closed_at, closed_by, transactions, debit_cents FROM ledger_closings
    WHERE CAST(:number AS bigint) IS NULL OR number = :number ORDER BY number
    """
)


async def close_period(runtime: Runtime, before: datetime, actor: str) -> Closing:
    """Closes everything effective before `before` (aware), for good. Audited.

    Postings go on meanwhile and wait only for its last moment. Raises InvalidInput for an instant without a time zone or in the
    future, Conflict for one that is not after the last closing.
    """
    if before.tzinfo is None:
        raise InvalidInput(f"a period closes at an instant: {before} has no time zone")

    async def work(connection: AsyncConnection) -> Closing:
        arguments = {"now": runtime.clock.now(), "before": before, "actor": actor}
        with ledger_refusals(f"closing the ledger before {before.isoformat()}"):
            number = (await connection.execute(_CLOSE, arguments)).scalar_one()
        (closing,) = await _read(connection, number)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="ledger.closed",
            subject=f"ledger closing {number}",
            after={
                "closed_before": before.isoformat(),
                "transactions": closing.transactions,
                "debit_cents": closing.debits.cents,
            },
        )
        return closing

    return await in_transaction(runtime.engine, work)


async def list_closings(connection: AsyncConnection) -> list[Closing]:
    """Every closing, the first one first."""
    return await _read(connection, None)


async def _read(connection: AsyncConnection, number: int | None) -> list[Closing]:
    rows = await connection.execute(_CLOSINGS, {"number": number})
    return [
        Closing(row.number, row.closed_before, row.closed_at, row.closed_by, row.transactions, Money(row.debit_cents))
        for row in rows
    ]
