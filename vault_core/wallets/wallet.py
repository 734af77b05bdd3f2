"""A partner's wallet as its reader sees it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import NotFound
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class Wallet:
    """`posted` is what entries sum to, `held` is set aside for payouts under way, `available` is the rest.

    `low_threshold` is the partner's low-balance setting, `short_since` when the open shortage was told.
    """

    partner_id: UUID
    partner: str
    posted: Money
    held: Money
    available: Money
    low_threshold: Money
    short_since: datetime | None


_PARTNER = text(
    """
    SELECT p.name, p.low_balance_cents, a.raised_at FROM partners p
    LEFT JOIN wallet_alerts a ON a.partner_id = p.id AND a.kind = 'short' AND a.ended_at IS NULL WHERE p.id = :id
    """
)


async def load_wallet(connection: AsyncConnection, partner_id: UUID) -> Wallet:
    """The partner's wallet. Raises NotFound if there is no such partner."""
    row = (await connection.execute(_PARTNER, {"id": partner_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no partner {partner_id}")
    standing = await balance(connection, AccountRef(partner_id, "wallet"))
    return Wallet(
        partner_id=partner_id,
        partner=row.name,
        posted=standing.posted,
        held=standing.held,
        available=standing.available,
        low_threshold=Money(row.low_balance_cents),
        short_since=row.raised_at,
    )
