"""Reading back from Mifos X the accounts that a day touched: the third leg of the reconciliation.

Mifos X has no list of transactions by day in any version we meet (reference/fineract.md section 5), so the accounts of the day's
money are read one by one, a few at once, and every transaction they show is kept, reversals included.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import LoanTransaction
from vault_core.clock import day_bounds
from vault_core.database import in_transaction
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

_AT_ONCE = 4  # more only adds waiting on the server (shared/tools/fineract measurements; its pool holds 10)
_KINDS = {"disbursement": "disburse", "repayment": "repayment", "deposit": "deposit"}

_TOUCHED = text(
    """
    SELECT DISTINCT partner_id, kind = 'deposit' AS savings, account_id FROM core_postings p
    WHERE transaction_date = :day OR (posted_at >= :start AND posted_at < :end)
       OR EXISTS (SELECT FROM rail_lines r WHERE r.partner_id = p.partner_id AND r.receipt = p.receipt
                  AND r.happened_at >= :start AND r.happened_at < :end)
    UNION
    SELECT DISTINCT partner_id, false, loan_id FROM disbursements WHERE paid_at >= :start AND paid_at < :end
    ORDER BY 1, 2, 3
    """
)
# What an undo took away no longer shows in Mifos X (reference/fineract.md section 11, finding 5): an account's lines count as
# reversed unless this reading shows them again.
_DOUBT = text(
    """
    UPDATE core_lines SET reversed = true, read_at = :read_at
    WHERE partner_id = :partner_id AND account_id = :account_id AND (kind = 'deposit') = :savings AND NOT reversed
    """
)
_KEEP = text(
    """
    INSERT INTO core_lines (partner_id, kind, account_id, mifos_transaction_id, external_id, receipt, amount_cents,
                            transaction_date, reversed, read_at)
    VALUES (:partner_id, :kind, :account_id, :mifos_transaction_id, :external_id, :receipt, :amount_cents,
            :transaction_date, :reversed, :read_at)
    ON CONFLICT (partner_id, kind, mifos_transaction_id) DO UPDATE
    SET account_id = EXCLUDED.account_id, external_id = EXCLUDED.external_id, receipt = EXCLUDED.receipt,
        amount_cents = EXCLUDED.amount_cents, transaction_date = EXCLUDED.transaction_date, reversed = EXCLUDED.reversed,
        read_at = EXCLUDED.read_at
    """
)


@dataclass(frozen=True, slots=True)
class CoreReading:
    """What was read: accounts asked and transactions kept."""

    accounts: int
    transactions: int


async def read_core_day(runtime: Runtime, connections: Connections, day: date) -> CoreReading:
    """Reads every account that `day` touched and keeps its transactions in `core_lines`. Repeats update the same rows.

    Raises the client's errors: a reconciliation over half a Mifos X would report breaks that are none.
    """
    start, end = day_bounds(day)
    async with runtime.engine.connect() as connection:
        touched = (await connection.execute(_TOUCHED, {"day": day, "start": start, "end": end})).all()
    gates: dict[UUID, asyncio.Semaphore] = {}

    async def read(partner_id: UUID, account_id: int, *, savings: bool) -> list[dict[str, object]]:
        async with gates.setdefault(partner_id, asyncio.Semaphore(_AT_ONCE)):
            transactions = await _transactions(await connections.mifos(partner_id), account_id, savings=savings)
        return [_row(runtime, partner_id, account_id, transaction) for transaction in transactions if transaction.kind in _KINDS]

    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(read(row.partner_id, row.account_id, savings=row.savings)) for row in touched]
    rows = [row for reading in readings for row in reading.result()]
    doubted = [
        {"partner_id": row.partner_id, "account_id": row.account_id, "savings": row.savings, "read_at": runtime.clock.now()}
        for row in touched
    ]

    async def keep(connection: AsyncConnection) -> None:
        if doubted:
            await connection.execute(_DOUBT, doubted)
        if rows:
            await connection.execute(_KEEP, rows)

    await in_transaction(runtime.engine, keep)
    return CoreReading(accounts=len(touched), transactions=len(rows))


async def _transactions(mifos: MifosClient, account_id: int, *, savings: bool) -> Sequence[LoanTransaction]:
    if savings:
        return (await mifos.savings_account(account_id)).transactions
    return (await mifos.loan(account_id)).transactions


def _row(runtime: Runtime, partner_id: UUID, account_id: int, transaction: LoanTransaction) -> dict[str, object]:
    return {
        "partner_id": partner_id,
        "kind": _KINDS[transaction.kind],
        "account_id": account_id,
        "mifos_transaction_id": transaction.id,
        "external_id": transaction.external_id,
        "receipt": transaction.receipt,
        "amount_cents": transaction.amount.cents,
        "transaction_date": transaction.on,
        "reversed": transaction.reversed,
        "read_at": runtime.clock.now(),
    }
