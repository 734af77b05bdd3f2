"""`vault disbursements ...`: paid loans that are not in Mifos X."""

import json
from typing import Annotated

import typer
from rich.console import Console

from vault_cli.session import actor, run
from vault_core.disbursements.resuming import resume_postings
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Disbursements: paid loans and their postings.")
console = Console(soft_wrap=True, highlight=False)


@app.callback()
def disbursements() -> None:
    """Disbursements: paid loans and their postings."""


@app.command()
def resume(
    partner: Annotated[str, typer.Argument(help="The partner's short name.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    receipt: Annotated[list[str] | None, typer.Option(help="Only this receipt; may be given again.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Post paid loans again that were handed over (case disbursement_unposted), once the cause is gone. Posts none twice.

    JSON: {"resumed": [receipts]}
    """

    async def work(runtime: Runtime) -> list[str]:
        async with runtime.engine.connect() as connection:
            await load_partner(connection, name=partner)
        return await resume_postings(runtime, partner, actor=actor(), reason=reason, receipts=receipt)

    resumed = run(work)
    if json_:
        typer.echo(json.dumps({"resumed": resumed}))
    else:
        console.print(f"taken up again: {', '.join(resumed) or 'none; no posting of that partner is with a person'}")
