"""A partner's wallet as its reader sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import NotFound
from vault_core.ledger.balances import Balance, balances
from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money
from vault_core.wallets.low_balance import Burn, days_left, load_burns, recommended_topup


@dataclass(frozen=True, slots=True)
class Wallet:
    """`posted` is what entries sum to, `held` is set aside for payouts under way, `available` is the rest.

    `low_threshold` is the partner's low-balance setting, `low_since` and `short_since` when the open alerts were told.
    """

    partner_id: UUID
    partner: str
    posted: Money
    held: Money
    available: Money
    low_threshold: Money
    low_since: datetime | None
    short_since: datetime | None


@dataclass(frozen=True, slots=True)
class WalletOutlook:
    """A wallet, what it spends, and `waiting`: the charges of the payouts that wait for money."""

    wallet: Wallet
    burn: Burn
    waiting: Money

    @property
    def days_left(self) -> int | None:
        """For how many whole days the available money lasts; None if nothing is being spent."""
        return days_left(self.wallet.available, self.burn)

    @property
    def recommended_topup(self) -> Money:
        """What to pay in now; zero if nothing is needed."""
        return recommended_topup(self.wallet.available, self.burn, self.wallet.low_threshold, self.waiting)


_WALLETS = text(
    """
    SELECT p.id, p.name, p.low_balance_cents, low.raised_at AS low_since, short.raised_at AS short_since FROM partners p
    LEFT JOIN wallet_alerts low ON low.partner_id = p.id AND low.kind = 'low' AND low.ended_at IS NULL
    LEFT JOIN wallet_alerts short ON short.partner_id = p.id AND short.kind = 'short' AND short.ended_at IS NULL
    WHERE CAST(:ids AS uuid[]) IS NULL OR p.id = ANY(:ids) ORDER BY p.name
    """
)


async def load_wallet(connection: AsyncConnection, partner_id: UUID) -> Wallet:
    """The partner's wallet. Raises NotFound if there is no such partner."""
    found = await load_wallets(connection, [partner_id])
    if not found:
        raise NotFound(f"there is no partner {partner_id}")
    return found[0]


async def load_wallets(connection: AsyncConnection, partner_ids: Sequence[UUID] | None = None) -> list[Wallet]:
    """The wallets of these partners, or of all, by name."""
    rows = (await connection.execute(_WALLETS, {"ids": None if partner_ids is None else list(partner_ids)})).all()
    standing = await balances(connection, [AccountRef(row.id, "wallet") for row in rows])
    return [_wallet(row, standing[AccountRef(row.id, "wallet")]) for row in rows]


async def look_ahead(
    connection: AsyncConnection, now: datetime, wallets: Sequence[Wallet], waiting: Mapping[UUID, Money]
) -> list[WalletOutlook]:
    """The outlook of each wallet, in order. `waiting`: the charges that payouts wait for, by partner."""
    burns = await load_burns(connection, now, [wallet.partner_id for wallet in wallets])
    return [WalletOutlook(wallet, burns[wallet.partner_id], waiting.get(wallet.partner_id, ZERO)) for wallet in wallets]


def _wallet(row: Row[Any], standing: Balance) -> Wallet:
    return Wallet(
        partner_id=row.id,
        partner=row.name,
        posted=standing.posted,
        held=standing.held,
        available=standing.available,
        low_threshold=Money(row.low_balance_cents),
        low_since=row.low_since,
        short_since=row.short_since,
    )
