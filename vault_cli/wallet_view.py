"""How wallets and their adjustments are printed: for a person, in Nairobi's time, and as JSON with documented keys."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from vault_core.clock import NAIROBI
from vault_core.money import Money
from vault_core.wallets.adjustments import Adjustment
from vault_core.wallets.alerts import is_low
from vault_core.wallets.wallet import Wallet, WalletOutlook

console = Console(soft_wrap=True, highlight=False)
_wide = Console(width=160, highlight=False)  # a line each: a narrow screen wraps it, no column is cut


def outlook_json(outlook: WalletOutlook) -> dict[str, Any]:
    """The keys of `wallet show` and `wallet list`."""
    wallet = outlook.wallet
    return {
        "partner": wallet.partner,
        "posted_cents": wallet.posted.cents,
        "held_cents": wallet.held.cents,
        "available_cents": wallet.available.cents,
        "low_balance_cents": wallet.low_threshold.cents,
        "low_since": _iso(wallet.low_since),
        "short_since": _iso(wallet.short_since),
        "waiting_cents": outlook.waiting.cents,
        "burn_cents": outlook.burn.spent.cents,
        "burn_days": outlook.burn.days,
        "days_left": outlook.days_left,
        "recommended_topup_cents": outlook.recommended_topup.cents,
    }


def print_outlook(outlook: WalletOutlook) -> None:
    """One wallet and what lies ahead of it."""
    wallet = outlook.wallet
    _say(f"{wallet.partner}: {wallet.available} available ({wallet.posted} posted, {wallet.held} held)")
    if is_low(wallet.available, wallet.low_threshold):
        _say(f"LOW: below the {wallet.low_threshold} that the partner set")
    elif wallet.low_threshold:
        _say(f"alert below {wallet.low_threshold}")
    if wallet.low_since:
        _say(f"the partner was told that it is low on {_minute(wallet.low_since)}")
    if wallet.short_since:
        _say(f"SHORT: payouts have waited for money since {_minute(wallet.short_since)}; they need {outlook.waiting}")
    if outlook.days_left is not None:
        days = f"{outlook.burn.days} days" if outlook.burn.days > 1 else "day"
        _say(f"{outlook.burn.daily} a day in the last {days}: lasts {outlook.days_left} days")
    if outlook.recommended_topup:
        _say(f"recommended top-up: {outlook.recommended_topup}")


def print_outlooks(outlooks: Sequence[WalletOutlook]) -> None:
    """All wallets, a line each."""
    table = Table("partner", box=None, pad_edge=False)
    for name in ("available KES", "held", "alert below", "a day", "days left", "to pay in"):
        table.add_column(name, justify="right")
    table.add_column("")
    for outlook in outlooks:
        wallet = outlook.wallet
        table.add_row(
            wallet.partner,
            _bare(wallet.available) or "0.00",
            *(_bare(amount) or "-" for amount in (wallet.held, wallet.low_threshold, outlook.burn.daily)),
            "-" if outlook.days_left is None else str(outlook.days_left),
            _bare(outlook.recommended_topup) or "-",
            _marks(wallet),
        )
    _wide.print(table)


def adjustment_json(adjustment: Adjustment) -> dict[str, Any]:
    """The keys of an adjustment."""
    return {
        "id": str(adjustment.id),
        "partner": adjustment.partner,
        "kind": adjustment.kind,
        "amount_cents": adjustment.amount.cents,
        "original": None if adjustment.original is None else str(adjustment.original),
        "reference": adjustment.reference,
        "reason": adjustment.reason,
        "state": adjustment.state,
        "proposed_by": adjustment.proposed_by,
        "proposed_at": _iso(adjustment.proposed_at),
        "lapses_at": _iso(adjustment.lapses_at),
        "decided_by": adjustment.decided_by,
        "decided_at": _iso(adjustment.decided_at),
        "decision_note": adjustment.decision_note,
        "transaction": None if adjustment.transaction_id is None else str(adjustment.transaction_id),
    }


def tell_proposed(proposed: Adjustment, *, json_: bool) -> None:
    """What waits now, and how another person approves it; with `json_` its keys."""
    if json_:
        typer.echo(json.dumps(adjustment_json(proposed)))
        return
    held = f"; {-proposed.amount} is held for it" if proposed.hold_id is not None else ""
    console.print(
        f"{proposed.amount} for {proposed.partner} under {proposed.reference} waits for a second person{held}\n"
        f"another login approves it with: vault wallet approve {proposed.id}",
        markup=False,
    )


def print_adjustments(adjustments: Sequence[Adjustment]) -> None:
    """Two lines each, whatever the width of the screen: what and how it stands; why and by whom."""
    for adjustment in adjustments:
        _say(
            f"{adjustment.id}  {adjustment.partner}  {adjustment.amount}  {adjustment.kind}  {adjustment.reference}  "
            f"{_state(adjustment)}"
        )
        _say(f"    {adjustment.reason} ({adjustment.proposed_by}, {_minute(adjustment.proposed_at)})")


def _state(adjustment: Adjustment) -> str:
    if adjustment.state == "proposed":
        return f"waits until {_minute(adjustment.lapses_at)}"
    by = f" by {adjustment.decided_by}" if adjustment.decided_by else ""
    return f"{adjustment.state}{by}"


def _bare(amount: Money) -> str:
    return f"{amount.as_decimal():,.2f}" if amount else ""


def _marks(wallet: Wallet) -> str:
    low = is_low(wallet.available, wallet.low_threshold)
    return " ".join(mark for mark, due in (("LOW", low), ("SHORT", wallet.short_since is not None)) if due)


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _say(line: str) -> None:
    console.print(line, markup=False)
