"""`vault wallet ...`: partners' prepaid wallets."""

import json
from typing import Annotated

import typer

from vault_cli import wallet_adjustments, wallet_transactions
from vault_cli.session import actor, failures_told, run
from vault_cli.wallet_view import (
    adjustment_json,
    console,
    outlook_json,
    print_adjustments,
    print_outlook,
    print_outlooks,
    tell_proposed,
)
from vault_core.disbursements.waiting import charges_waiting
from vault_core.money import Money
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.wallets.adjustments import Adjustment, list_adjustments
from vault_core.wallets.threshold import set_threshold
from vault_core.wallets.topup import TopUp, record_topup
from vault_core.wallets.wallet import WalletOutlook, load_wallet, load_wallets, look_ahead

app = typer.Typer(no_args_is_help=True, help="Wallets: what partners have paid in ahead for our services.")
wallet_adjustments.register(app)
app.command()(wallet_transactions.transactions)

Name = Annotated[str, typer.Argument(help="The partner's short name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command()
def show(name: Name, json_: Json = False) -> None:
    """What is in the wallet, what is held, what is available; its alerts, its burn rate and what to pay in.

    JSON: {"partner", "posted_cents", "held_cents", "available_cents", "low_balance_cents", "low_since", "short_since",
    "waiting_cents", "burn_cents" (of the last "burn_days"), "days_left", "recommended_topup_cents", "open_adjustments"}
    """

    async def work(runtime: Runtime) -> tuple[WalletOutlook, list[Adjustment]]:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
            wallet = await load_wallet(connection, partner.id)
            waiting = await charges_waiting(connection)
            (outlook,) = await look_ahead(connection, runtime.clock.now(), [wallet], waiting)
            return outlook, await list_adjustments(connection, partner.id, open_only=True)

    outlook, waiting_adjustments = run(work)
    if json_:
        adjustments = [adjustment_json(adjustment) for adjustment in waiting_adjustments]
        typer.echo(json.dumps(outlook_json(outlook) | {"open_adjustments": adjustments}))
        return
    print_outlook(outlook)
    if waiting_adjustments:
        console.print("adjustments that wait for a second person:")
        print_adjustments(waiting_adjustments)


@app.command("list")
def list_(json_: Json = False) -> None:
    """Every partner's wallet, marked LOW when it is under its threshold and SHORT when payouts wait for money.

    JSON: a list of what `wallet show` says, without "open_adjustments".
    """

    async def work(runtime: Runtime) -> list[WalletOutlook]:
        async with runtime.engine.connect() as connection:
            wallets = await load_wallets(connection)
            return await look_ahead(connection, runtime.clock.now(), wallets, await charges_waiting(connection))

    outlooks = run(work)
    if json_:
        typer.echo(json.dumps([outlook_json(outlook) for outlook in outlooks]))
    elif outlooks:
        print_outlooks(outlooks)
    else:
        console.print("no partner yet: `vault partner add`")


@app.command("top-up")
def top_up(
    name: Name,
    amount: Annotated[str, typer.Argument(help="Shillings, e.g. 25000 or 25000.50.")],
    reference: Annotated[str, typer.Option(help="The bank's own reference of the transfer: it counts once.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    json_: Json = False,
) -> None:
    """Credit the wallet with money that has reached the bank. The same reference and amount again changes nothing.

    Above VAULT_TOP_UP_ALONE_UP_TO it waits for a second person: `wallet approve`.
    JSON: {"transaction", "repeated", "wallet": as `wallet list`}; of one that waits: as `wallet adjust`
    """
    with failures_told():
        money = Money.parse(amount)

    async def work(runtime: Runtime) -> Adjustment | tuple[TopUp, WalletOutlook]:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        done = await record_topup(runtime, partner.id, money, reference, actor(), reason)
        if isinstance(done, Adjustment):
            return done
        async with runtime.engine.connect() as connection:
            waiting = await charges_waiting(connection)
            (outlook,) = await look_ahead(connection, runtime.clock.now(), [done.wallet], waiting)
        return done, outlook

    result = run(work)
    if isinstance(result, Adjustment):
        tell_proposed(result, json_=json_)
        return
    done, outlook = result
    if json_:
        told = {"transaction": str(done.transaction_id), "repeated": done.repeated, "wallet": outlook_json(outlook)}
        typer.echo(json.dumps(told))
        return
    if done.repeated:
        console.print(f"top-up {reference} was recorded before: nothing changed", markup=False)
    else:
        console.print(f"{money} recorded under {reference}", markup=False)
    print_outlook(outlook)


@app.command()
def threshold(name: Name, amount: Annotated[str, typer.Argument(help="Shillings; 0: no alert.")], json_: Json = False) -> None:
    """Set the balance under which the partner's people are texted that the wallet runs low.

    JSON: {"partner", "low_balance_cents", "former_cents"}
    """
    with failures_told():
        money = Money.parse(amount)

    async def work(runtime: Runtime) -> Money:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        return await set_threshold(runtime, partner.id, money, actor=actor())

    former = run(work)
    if json_:
        typer.echo(json.dumps({"partner": name, "low_balance_cents": money.cents, "former_cents": former.cents}))
    elif money:
        console.print(f"{name} is told when less than {money} is available (it was {former})", markup=False)
    else:
        console.print(f"{name} is not told any more when its wallet runs low", markup=False)
