"""Payments that M-Pesa tells of against what stands: kept as evidence of the rail, so that the reconciliation shows the money.

The ledger does not have them, for which of M-Pesa's words is true is a person's to find out. Until then the receipt is a break
of the day (`missing_in_ledger`), explained by its open case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class UnbookedPayment:
    """A receipt that M-Pesa names as paid and that the ledger does not have."""

    partner_id: UUID
    receipt: str
    amount: Money
    at: datetime
    event_id: UUID


_KEEP = text(
    """
    INSERT INTO rail_lines (rail, short_code, receipt, partner_id, amount_cents, happened_at, evidence_event_id)
    SELECT 'mpesa_b2c', p.b2c_short_code, line.receipt, p.id, line.amount, line.at, line.event_id
    FROM unnest(CAST(:partners AS uuid[]), CAST(:receipts AS text[]), CAST(:amounts AS bigint[]), CAST(:ats AS timestamptz[]),
                CAST(:events AS uuid[])) AS line(partner_id, receipt, amount, at, event_id)
    JOIN partners p ON p.id = line.partner_id
    WHERE line.amount > 0
    ON CONFLICT (short_code, receipt) DO NOTHING
    """
)

# A receipt that the ledger has is no unbooked payment: its line stays whatever a person finds out.
_FORGET = text(
    """
    DELETE FROM rail_lines r USING partners p
    WHERE p.id = :partner_id AND r.rail = 'mpesa_b2c' AND r.short_code = p.b2c_short_code AND r.receipt = :receipt
          AND NOT EXISTS (SELECT FROM ledger_transactions t
                          WHERE t.partner_id = r.partner_id AND t.kind = 'disbursement_paid' AND t.reference = r.receipt
                                AND NOT EXISTS (SELECT FROM ledger_reversals v WHERE v.original = t.id))
    """
)


async def keep_unbooked(connection: AsyncConnection, payments: Sequence[UnbookedPayment]) -> None:
    """Keeps a rail line for each receipt. Repeats do nothing."""
    if not payments:
        return
    await connection.execute(
        _KEEP,
        {
            "partners": [payment.partner_id for payment in payments],
            "receipts": [payment.receipt for payment in payments],
            "amounts": [payment.amount.cents for payment in payments],
            "ats": [payment.at for payment in payments],
            "events": [payment.event_id for payment in payments],
        },
    )


async def forget_unbooked(connection: AsyncConnection, partner_id: UUID, receipt: str) -> None:
    """Takes the line of an unbooked receipt back, because a person found out what became of it. The delivery stays stored."""
    await connection.execute(_FORGET, {"partner_id": partner_id, "receipt": receipt})
