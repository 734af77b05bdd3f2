"""What the commands about one disbursement share: which one is meant, why, and whether the person is sure."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.session import run
from vault_core.disbursements.payout_list import ListedPayout, listed_payout
from vault_core.disbursements.payout_reference import find_payout
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)

Which = Annotated[str, typer.Argument(metavar="WHICH", help="Its id, receipt, an id of M-Pesa's, or the loan's number.")]
Partner = Annotated[str | None, typer.Option("--partner", help="The loan's partner, if others have a loan of that number.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it stands in the story and in the audit trail.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


def found_payout(which: str, partner: str | None) -> ListedPayout:
    """The disbursement that is meant. Ends the command if there is none, or more than one."""

    async def work(runtime: Runtime) -> ListedPayout:
        async with runtime.engine.connect() as connection:
            return await listed_payout(connection, runtime, await find_payout(connection, which, partner=partner))

    return run(work)


def confirm(payout: ListedPayout, question: str, *, yes: bool) -> None:
    """Asks whether to go on, unless `yes`; ends the command if not."""
    if yes:
        return
    console.print(f"{named(payout)}, {payout.payout}, {payout.state.value}: {payout.reason or payout.next.words}", markup=False)
    console.print(question, markup=False)
    typer.confirm("Go on?", abort=True)


def named(payout: ListedPayout) -> str:
    """The loan, for a person."""
    return f"loan {payout.loan_account_no} of {payout.partner}"


def print_json(value: Any) -> None:
    """Prints what a program asked for."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
