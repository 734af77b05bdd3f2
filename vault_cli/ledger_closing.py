"""`vault ledger close` and `closings`: what is final in the books."""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from vault_cli.ledger_view import by_name, console, print_trial, trial_json, until
from vault_cli.moments import read_day, shown
from vault_cli.session import actor, run
from vault_core.clock import business_day, day_bounds
from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.account_names import partner_names
from vault_core.ledger.as_of import trial_balance_before
from vault_core.ledger.balances import TrialLine
from vault_core.ledger.closing import Closing, close_period, list_closings
from vault_core.ledger.snapshot import ledger_snapshot
from vault_core.runtime import Runtime

Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `vault ledger`."""
    app.command()(close)
    app.command()(closings)


def close(
    day: Annotated[str, typer.Argument(help="The last Nairobi day that becomes final, as 2026-11-20.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Close the books up to the end of a day: everything that happened until then is final. It cannot be undone.

    What is told of later is booked into the open period, with its real time beside it. JSON: {"closing", "closed_before",
    "closed_at", "closed_by", "transactions", "trial_balance": as `ledger trial-balance`}
    """
    before = run(lambda runtime: _end_of(runtime, day))
    if not yes:
        typer.confirm(f"Close the books for good up to {until(before)}?", abort=True, err=True)

    async def work(runtime: Runtime) -> tuple[Closing, list[tuple[str, TrialLine]]]:
        closing = await close_period(runtime, before, actor())
        async with ledger_snapshot(runtime.engine) as connection:
            lines = await trial_balance_before(connection, before, "effective", now=runtime.clock.now())
            return closing, by_name(lines, await partner_names(connection))

    closing, frozen = run(work)
    if json_:
        typer.echo(json.dumps({**_as_json(closing), "trial_balance": trial_json(frozen)}))
        return
    console.print(
        f"closing {closing.number}: everything up to {until(before)} is final, {closing.transactions:,} transactions more"
    )
    print_trial(frozen, f"frozen at {until(before)}")


def closings(json_: Json = False) -> None:
    """What is closed, the first closing first.

    JSON: [{"closing", "closed_before", "closed_at", "closed_by", "transactions", "debit_cents"}]
    """

    async def work(runtime: Runtime) -> list[Closing]:
        async with runtime.engine.connect() as connection:
            return await list_closings(connection)

    found = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(closing) for closing in found]))
    elif not found:
        console.print("no period is closed yet: `vault ledger close DAY` closes everything up to the end of a day")
    else:
        table = Table("closing", "final up to", "closed at", "by", box=None, pad_edge=False)
        table.add_column("transactions", justify="right")
        table.add_column("debits = credits", justify="right")
        for closing in found:
            words = (str(closing.number), until(closing.closed_before), shown(closing.closed_at), closing.closed_by)
            table.add_row(*words, f"{closing.transactions:,}", str(closing.debits))
        console.print(table)


async def _end_of(runtime: Runtime, text: str) -> datetime:
    """The end of the day, if it is over and not closed yet: told before anybody is asked to confirm."""
    day, today = read_day(text), business_day(runtime.clock.now())
    if day >= today:
        raise InvalidInput(f"{day} is not over in Nairobi: the last day that can be closed is {today - timedelta(days=1)}")
    before = day_bounds(day)[1]
    async with runtime.engine.connect() as connection:
        closed = await list_closings(connection)
    if closed and closed[-1].closed_before >= before:
        raise Conflict(f"{day} is final already: the books are closed up to {until(closed[-1].closed_before)}")
    return before


def _as_json(closing: Closing) -> dict[str, Any]:
    return {
        "closing": closing.number,
        "closed_before": closing.closed_before.isoformat(),
        "closed_at": closing.closed_at.isoformat(),
        "closed_by": closing.closed_by,
        "transactions": closing.transactions,
        "debit_cents": closing.debits.cents,
    }
