"""`vault partner register-pull` and `text-core-payments`: the feeds of payments beside M-Pesa's confirmations."""

from contextlib import aclosing
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from vault_cli.session import actor, run
from vault_core.collections.pull_registration import register_pull
from vault_core.partners.connections import Connections
from vault_core.partners.core_payment_texts import set_core_payment_texts
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help="The partner's short name.")]


def register_pull_command(
    name: Name,
    number: Annotated[str, typer.Option(help="The mobile number that the pay bill's owner nominated at Safaricom.")],
    back: Annotated[
        int, typer.Option(help="Hours of the past to read, too, up to 47. Not hours that another program worked on.")
    ] = 0,
) -> None:
    """Have the pay bill's payments pulled from M-Pesa by the clock, so that lost confirmations are found. May be repeated."""

    async def work(runtime: Runtime) -> str:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        async with aclosing(Connections(runtime)) as connections:
            await register_pull(runtime, connections, partner, number, actor=actor(), back=timedelta(hours=back))
        return partner.c2b_short_code

    begins = f"beginning {back} hours back" if back else "beginning now"
    console.print(f"payments to pay bill {run(work)} are pulled from now on, {begins}")


def text_core_payments(
    name: Name,
    on: Annotated[bool, typer.Option("--on/--off", help="Text the clients, or not.")],
) -> None:
    """Text clients about payments that the partner's own people enter in Mifos X, or do not (as it is at first)."""

    async def work(runtime: Runtime) -> None:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        await set_core_payment_texts(runtime, partner, on=on, actor=actor())

    run(work)
    console.print(f"clients of {name} are {'texted' if on else 'not texted'} about payments entered in Mifos X")
