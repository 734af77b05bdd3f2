"""What payouts wait for at their partners' wallets."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money

_WAITING = text(
    """
    SELECT partner_id, coalesce(sum(needed_cents), 0)::bigint AS cents FROM disbursements
    WHERE state = 'held' AND held_for = 'wallet_short' GROUP BY partner_id
    """
)


async def charges_waiting(connection: AsyncConnection) -> dict[UUID, Money]:
    """The charges of all payouts that are held for a short wallet, by partner."""
    return {row.partner_id: Money(row.cents) for row in await connection.execute(_WAITING)}
