"""Wallet alerts: told once a shortage, however many loans wait for the money.

Two kinds: 'short' (a payout could not be held for) and 'low' (available fell under the partner's threshold). An alert is open
from when it is told until the shortage is over, and over means with room to spare, so that a balance that wavers about the line
does not text the partner at every crossing.
"""

from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money
from vault_core.runtime import Runtime

AlertKind = Literal["short", "low"]

_ROOM_PERCENT = 120  # of the line: what available must reach before the same alert can be told again

_RAISE = text(
    """
    INSERT INTO wallet_alerts (id, partner_id, kind, balance_cents, raised_at) VALUES (:id, :partner_id, :kind, :balance, :now)
    ON CONFLICT (partner_id, kind) WHERE ended_at IS NULL DO NOTHING
    """
)
_END = text("UPDATE wallet_alerts SET ended_at = :now WHERE partner_id = :partner_id AND kind = :kind AND ended_at IS NULL")


def is_low(available: Money, threshold: Money) -> bool:
    """Whether a 'low' alert is due. A threshold of zero means that the partner wants none."""
    return bool(threshold) and available < threshold


def is_over(available: Money, line: Money) -> bool:
    """Whether a shortage about `line` (the threshold, or what the waiting payouts cost) is over: a fifth above it."""
    return available.cents * 100 >= line.cents * _ROOM_PERCENT


async def raise_alert(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, kind: AlertKind, available: Money) -> bool:
    """Opens the alert, in the caller's transaction. True: it is new, tell the partner. False: it is open, they know."""
    opened = await connection.execute(
        _RAISE,
        {"id": runtime.new_id(), "partner_id": partner_id, "kind": kind, "balance": available.cents, "now": runtime.clock.now()},
    )
    return opened.rowcount == 1


async def end_alert(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, kind: AlertKind) -> bool:
    """Ends the open alert, in the caller's transaction; False if there is none. Ask `is_over` first."""
    ended = await connection.execute(_END, {"partner_id": partner_id, "kind": kind, "now": runtime.clock.now()})
    return ended.rowcount == 1
