"""`vault wallet ...`: a partner's prepaid wallet."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.session import actor, failures_told, run
from vault_core.money import Money
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.wallets.alerts import is_low
from vault_core.wallets.topup import TopUp, record_topup
from vault_core.wallets.wallet import Wallet, load_wallet

app = typer.Typer(no_args_is_help=True, help="Wallets: what partners have paid in ahead for our services.")
console = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help="The partner's short name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command()
def show(name: Name, json_: Json = False) -> None:
    """What is in the wallet, what is held for payouts under way, what is available.

    JSON: {"partner", "posted_cents", "held_cents", "available_cents", "low_balance_cents", "short_since"}
    """

    async def work(runtime: Runtime) -> Wallet:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
            return await load_wallet(connection, partner.id)

    wallet = run(work)
    if json_:
        typer.echo(json.dumps(_as_json(wallet)))
    else:
        _print(wallet)


@app.command("top-up")
def top_up(
    name: Name,
    amount: Annotated[str, typer.Argument(help="Shillings, e.g. 25000 or 25000.50.")],
    reference: Annotated[str, typer.Option(help="The bank's own reference of the transfer: it counts once.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    json_: Json = False,
) -> None:
    """Credit the wallet with money that has reached the bank. The same reference and amount again changes nothing.

    JSON: {"transaction", "repeated", "wallet": as `wallet show`}
    """
    with failures_told():
        money = Money.parse(amount)

    async def work(runtime: Runtime) -> TopUp:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        return await record_topup(runtime, partner.id, money, reference, actor(), reason)

    done = run(work)
    if json_:
        typer.echo(
            json.dumps({"transaction": str(done.transaction_id), "repeated": done.repeated, "wallet": _as_json(done.wallet)})
        )
        return
    if done.repeated:
        console.print(f"top-up {reference} was recorded before: nothing changed", markup=False)
    else:
        console.print(f"{money} recorded under {reference}", markup=False)
    _print(done.wallet)


def _as_json(wallet: Wallet) -> dict[str, Any]:
    return {
        "partner": wallet.partner,
        "posted_cents": wallet.posted.cents,
        "held_cents": wallet.held.cents,
        "available_cents": wallet.available.cents,
        "low_balance_cents": wallet.low_threshold.cents,
        "short_since": wallet.short_since.isoformat() if wallet.short_since else None,
    }


def _print(wallet: Wallet) -> None:
    console.print(f"{wallet.partner}: {wallet.available} available ({wallet.posted} posted, {wallet.held} held)", markup=False)
    if is_low(wallet.available, wallet.low_threshold):
        console.print(f"LOW: below the {wallet.low_threshold} that the partner set", markup=False)
    if wallet.short_since:
        console.print(f"payouts have waited for money since {wallet.short_since:%Y-%m-%d %H:%M} UTC", markup=False)
