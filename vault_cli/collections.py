"""`vault collections ...`: customers' payments that are not in Mifos X yet."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vault_cli.session import actor, run
from vault_core.clock import NAIROBI
from vault_core.collections.listing import OpenCollection, list_open_collections
from vault_core.collections.resuming import resume_collections
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Collections: customers' payments and where they stand.")
console = Console(soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command("list")
def list_(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    json_: Json = False,
) -> None:
    """Payments that are not in Mifos X: on their way, in suspense, or with a person.

    JSON: [{"partner", "short_code", "receipt", "amount_cents", "happened_at", "state", "reason", "reference"}], reference masked
    """

    async def work(runtime: Runtime) -> list[OpenCollection]:
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            return await list_open_collections(connection, runtime, partner=partner)

    found = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    elif not found:
        console.print("every payment is in Mifos X")
    else:
        _print(found)


@app.command()
def resume(
    partner: Annotated[str, typer.Argument(help="The partner's short name.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    receipt: Annotated[list[str] | None, typer.Option(help="Only this receipt; may be given again.")] = None,
    json_: Json = False,
) -> None:
    """Take payments up again that were handed over (needs_review): after an outage of Mifos X, say. Posts none twice.

    JSON: {"resumed": [receipts]}
    """

    async def work(runtime: Runtime) -> list[str]:
        async with runtime.engine.connect() as connection:
            await load_partner(connection, name=partner)
        return await resume_collections(runtime, partner, actor=actor(), reason=reason, receipts=receipt)

    resumed = run(work)
    if json_:
        typer.echo(json.dumps({"resumed": resumed}))
    else:
        console.print(f"taken up again: {', '.join(resumed) or 'none; nothing of that partner is in needs_review'}")


def _as_json(one: OpenCollection) -> dict[str, object]:
    return {
        "partner": one.partner,
        "short_code": one.short_code,
        "receipt": one.receipt,
        "amount_cents": one.amount.cents,
        "happened_at": one.happened_at.isoformat(),
        "state": one.state,
        "reason": one.reason,
        "reference": one.reference,
    }


def _print(found: list[OpenCollection]) -> None:
    table = Table("partner", "receipt", "amount", "when", "state", "reference", "reason")
    for one in found:
        when = f"{one.happened_at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
        table.add_row(one.partner, one.receipt, str(one.amount), when, one.state, one.reference, one.reason or "")
    console.print(table)
