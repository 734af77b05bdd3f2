"""Wallet alerts: told once a shortage, however many loans wait for the money.

Two kinds: 'short' (a payout could not be held for) and 'low' (available fell under the partner's threshold). An alert is open
from when it is told until the shortage is over, and over means with room to spare, so that a balance that wavers about the line
does not text the partner at every crossing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money
from vault_core.runtime import Runtime

AlertKind = Literal["short", "low"]

_ROOM_PERCENT = 120  # of the line: what available must reach before the same alert can be told again


@dataclass(frozen=True, slots=True)
class WatchedWallet:
    """A wallet beside its threshold. `told`: a low-balance alert is open."""

    partner_id: UUID
    available: Money
    threshold: Money
    told: bool


_RAISE = text(
    """
    INSERT INTO wallet_alerts (id, partner_id, kind, balance_cents, raised_at) VALUES (:id, :partner_id, :kind, :balance, :now)
    ON CONFLICT (partner_id, kind) WHERE ended_at IS NULL DO NOTHING
    """
)
_END = text(
    """
    UPDATE wallet_alerts SET ended_at = :now WHERE partner_id = ANY(:partner_ids) AND kind = :kind AND ended_at IS NULL
    RETURNING partner_id, raised_at
    """
)
# A wallet that never had an entry has not fallen under anything: its partner is told when the first loan waits for money.
_WATCHED = text(
    """
    SELECT p.id, p.low_balance_cents, -a.balance_cents - a.held_cents AS available_cents, w.id IS NOT NULL AS told
    FROM partners p JOIN ledger_accounts a ON a.partner_id = p.id AND a.code = 'wallet' AND a.version > 0
    LEFT JOIN wallet_alerts w ON w.partner_id = p.id AND w.kind = 'low' AND w.ended_at IS NULL
    WHERE p.low_balance_cents > 0 OR w.id IS NOT NULL ORDER BY p.id
    """
)


def is_low(available: Money, threshold: Money) -> bool:
    """Whether a 'low' alert is due. A threshold of zero means that the partner wants none."""
    return bool(threshold) and available < threshold


def line_of_end(line: Money) -> Money:
    """What available must reach for a shortage about `line` to be over: a fifth above it, to the next cent."""
    return Money(-(-line.cents * _ROOM_PERCENT // 100))


def is_over(available: Money, line: Money) -> bool:
    """Whether a shortage about `line` (the threshold) is over: a fifth above it."""
    return available >= line_of_end(line)


def turn_of_alert(wallet: WatchedWallet) -> Literal["raise", "end"] | None:
    """What a look at a wallet does to its low-balance alert. A threshold that was taken away ends it too."""
    if wallet.told:
        return "end" if not wallet.threshold or is_over(wallet.available, wallet.threshold) else None
    return "raise" if is_low(wallet.available, wallet.threshold) else None


async def watched_wallets(connection: AsyncConnection) -> list[WatchedWallet]:
    """Every wallet that a low-balance alert could begin or end for, as it stands now."""
    return [
        WatchedWallet(row.id, Money(row.available_cents), Money(row.low_balance_cents), row.told)
        for row in await connection.execute(_WATCHED)
    ]


async def raise_alert(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, kind: AlertKind, available: Money
) -> UUID | None:
    """Opens the alert, in the caller's transaction. Its id: it is new, tell the partner. None: it is open, they know."""
    alert_id = runtime.new_id()
    opened = await connection.execute(
        _RAISE,
        {"id": alert_id, "partner_id": partner_id, "kind": kind, "balance": available.cents, "now": runtime.clock.now()},
    )
    return alert_id if opened.rowcount == 1 else None


async def end_alerts(
    connection: AsyncConnection, runtime: Runtime, partner_ids: Sequence[UUID], kind: AlertKind
) -> dict[UUID, datetime]:
    """Ends the open alerts of these partners, in the caller's transaction. Answers whose, and when they were raised."""
    ended = await connection.execute(_END, {"partner_ids": list(partner_ids), "kind": kind, "now": runtime.clock.now()})
    return {row.partner_id: row.raised_at for row in ended}
