"""What would be sent once sending goes on: for the person who is about to let it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class Sendable:
    """The loans of one partner that wait for nothing but the go-ahead, those whose retry comes by itself among them."""

    partner: str
    loans: int
    total: Money
    oldest: datetime


_SENDABLE = text(
    """
    SELECT p.name, count(*)::integer AS loans, sum(d.payout_cents)::bigint AS cents, min(d.detected_at) AS oldest
    FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE (CAST(:partner_id AS uuid) IS NULL AND p.state = 'active' OR d.partner_id = :partner_id)
          AND (d.state IN ('ready', 'failed', 'refused')
               OR d.state = 'held' AND d.held_for IN ('partner_halted', 'sending_halted'))
    GROUP BY p.name ORDER BY p.name
    """
)


async def sendable_loans(connection: AsyncConnection, partner_id: UUID | None = None) -> list[Sendable]:
    """By partner: what goes when all sending goes on; or, for one partner whatever its state, what goes when it is resumed.

    Each is still decided on when its turn comes: wallet, limits, the loan in Mifos X.
    """
    rows = await connection.execute(_SENDABLE, {"partner_id": partner_id})
    return [Sendable(row.name, row.loans, Money(row.cents), row.oldest) for row in rows]
