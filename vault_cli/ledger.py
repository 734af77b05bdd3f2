"""`vault ledger ...`: what finance and auditors read from the books (docs/ledger.md)."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_cli import ledger_closing, ledger_view
from vault_cli.ledger_view import BalanceRow
from vault_cli.moments import read_instant, read_span
from vault_cli.session import run
from vault_core.errors import InvalidInput
from vault_core.ledger.account_names import account_named, partner_names
from vault_core.ledger.as_of import By, trial_balance_before
from vault_core.ledger.balances import HOUSE, TrialLine, balances, trial_balance
from vault_core.ledger.chart import CHART
from vault_core.ledger.export import Totals, export_entries, export_statement
from vault_core.ledger.snapshot import ledger_snapshot
from vault_core.ledger.statement import open_statement, statement_lines
from vault_core.ledger.transaction import BookedTransaction, load_transaction
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

_UNBALANCED = 1  # exit code: something is wrong with the books, not with the command

app = typer.Typer(no_args_is_help=True, help="The ledger: balances, statements, the trial balance, exports, closed periods.")
ledger_closing.register(app)

Account = Annotated[str, typer.Argument(help="OWNER/ACCOUNT, as alpha/wallet or house/fees:mpesa.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="A Nairobi day (to its end) or an ISO instant (all before it).")]
ByTime = Annotated[By, typer.Option("--by", help="effective: when things happened; booked: when we wrote them.")]
From = Annotated[str | None, typer.Option("--from", help="A Nairobi day or an ISO instant; this month's first day if left out.")]
To = Annotated[str | None, typer.Option("--to", help="A Nairobi day (included) or an ISO instant; now if left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command()
def accounts(json_: Json = False) -> None:
    """The chart of accounts: whose each is, on which side it grows, what it means.

    JSON: [{"account", "owner": "house" or "partner", "normal_side", "means"}]
    """
    if json_:
        typer.echo(json.dumps([ledger_view.chart_json(account) for account in CHART.values()]))
    else:
        ledger_view.print_chart()


@app.command("balances")
def all_balances(
    partner: Annotated[str | None, typer.Option(help="Only this partner's accounts.")] = None,
    as_of: AsOf = None,
    by: ByTime = "effective",
    json_: Json = False,
) -> None:
    """Every account's balance, now or as of an instant. What holds set aside is known for now only.

    JSON: [{"account", "balance_cents", "held_cents", "available_cents"}]; the last two are null as of an instant
    """

    async def work(runtime: Runtime) -> list[BalanceRow]:
        async with ledger_snapshot(runtime.engine) as connection:
            owner = None if partner is None else (await load_partner(connection, name=partner)).id
            names = await partner_names(connection)
            lines = await _trial(connection, _instant(as_of), by, runtime, owner=owner)
            standing = {} if as_of else await balances(connection, [line.account for line in lines])
            return [BalanceRow.of(line, name, standing.get(line.account)) for name, line in ledger_view.by_name(lines, names)]

    rows = run(work)
    if json_:
        typer.echo(json.dumps([row.as_json() for row in rows]))
    else:
        ledger_view.print_balances(rows, _when(as_of, by))


@app.command()
def balance(account: Account, as_of: AsOf = None, by: ByTime = "effective", json_: Json = False) -> None:
    """One account's balance, now or as of an instant.

    JSON: {"account", "balance_cents", "held_cents", "available_cents"}; the last two are null as of an instant
    """

    async def work(runtime: Runtime) -> BalanceRow:
        async with ledger_snapshot(runtime.engine) as connection:
            ref = account_named(account, await partner_names(connection))
            lines = await _trial(connection, _instant(as_of), by, runtime, owner=ref.partner_id or HOUSE, code=ref.code)
            standing = {} if as_of else await balances(connection, [ref])
            return BalanceRow.of((lines or [TrialLine.of(ref, 0)])[0], account, standing.get(ref))

    row = run(work)
    if json_:
        typer.echo(json.dumps(row.as_json()))
    else:
        ledger_view.print_balances([row], _when(as_of, by))


@app.command("trial-balance")
def trial(as_of: AsOf = None, by: ByTime = "effective", json_: Json = False) -> None:
    """All balances as debits and credits, now or as of an instant. Exits 1 if the two do not sum to the same.

    JSON: {"debit_cents", "credit_cents", "accounts": [{"account", "debit_cents", "credit_cents"}]}
    """

    async def work(runtime: Runtime) -> list[tuple[str, TrialLine]]:
        async with ledger_snapshot(runtime.engine) as connection:
            names = await partner_names(connection)
            lines = await _trial(connection, _instant(as_of), by, runtime)
            return ledger_view.by_name(lines, names)

    lines = run(work)
    balanced = ledger_view.trial_json(lines)
    if json_:
        typer.echo(json.dumps(balanced))
    else:
        ledger_view.print_trial(lines, _when(as_of, by))
    if balanced["debit_cents"] != balanced["credit_cents"]:
        raise typer.Exit(_UNBALANCED)


@app.command()
def statement(
    account: Account,
    start: From = None,
    end: To = None,
    by: ByTime = "effective",
    file: Annotated[Path | None, typer.Option(help="Write it to this .xlsx, .csv or .parquet instead.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Print at most so many lines; --file and --json write all.")] = 200,
    json_: Json = False,
) -> None:
    """An account's opening balance, every line with the balance after it (in its normal side), its closing balance.

    JSON: {"account", "by", "from", "to", "opening_cents", "closing_cents", "lines": [{"transaction", "effective_at", "booked_at",
    "carried_from", "kind", "reference", "description", "debit_cents", "credit_cents", "balance_cents"}]}
    """

    async def work(runtime: Runtime) -> Totals | None:
        now = runtime.clock.now()
        async with ledger_snapshot(runtime.engine) as connection:
            ref = account_named(account, await partner_names(connection))
            head = await open_statement(connection, ref, *read_span(start, end, now), by, now=now)
            if file is not None:
                return await export_statement(connection, file, head)
            lines = statement_lines(connection, head)
            if json_:
                await ledger_view.write_statement_json(account, head, lines)
            else:
                await ledger_view.print_statement(account, head, lines, most=most)
            return None

    written = run(work)
    if written is not None:
        ledger_view.print_written(file, written, json_=json_)


@app.command()
def transaction(
    transaction_id: Annotated[str, typer.Argument(metavar="ID", help="The transaction's id.")], json_: Json = False
) -> None:
    """One transaction: its legs, its key, what it reverses or is reversed by, and the seal that covers it.

    JSON: {"id", "partner", "kind", "reference", "key", "description", "effective_at", "booked_at", "carried_from", "reverses",
    "reversed_by", "seal": null or {"number", "sealed_at", "chain"}, "legs": [{"leg", "account", "debit_cents", "credit_cents",
    "account_row", "account_version"}]}
    """

    async def work(runtime: Runtime) -> tuple[BookedTransaction, dict[UUID, str]]:
        async with ledger_snapshot(runtime.engine) as connection:
            return await load_transaction(connection, _uuid(transaction_id)), await partner_names(connection)

    found, names = run(work)
    if json_:
        typer.echo(json.dumps(ledger_view.transaction_json(found, names)))
    else:
        ledger_view.print_transaction(found, names)


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(help="A .csv (decimal amounts) or .parquet (integer cents); docs/ledger.md has the columns.")
    ],
    start: From = None,
    end: To = None,
    by: ByTime = "effective",
    json_: Json = False,
) -> None:
    """Write every entry of a period to a file, each once. For one account's statement see `ledger statement --file`.

    JSON: {"file", "entries", "debit_cents", "credit_cents"}
    """

    async def work(runtime: Runtime) -> Totals:
        async with ledger_snapshot(runtime.engine) as connection:
            return await export_entries(connection, file, *read_span(start, end, runtime.clock.now()), by)

    ledger_view.print_written(file, run(work), json_=json_)


async def _trial(
    connection: AsyncConnection,
    before: datetime | None,
    by: By,
    runtime: Runtime,
    *,
    owner: UUID | None = None,
    code: str | None = None,
) -> list[TrialLine]:
    if before is not None:
        return await trial_balance_before(connection, before, by, now=runtime.clock.now(), owner=owner, code=code)
    lines = await trial_balance(connection)
    return [line for line in lines if owner in (None, line.account.partner_id or HOUSE) and code in (None, line.account.code)]


def _instant(as_of: str | None) -> datetime | None:
    return None if as_of is None else read_instant(as_of, day="end")


def _when(as_of: str | None, by: By) -> str:
    return "now" if as_of is None else f"as of {ledger_view.until(read_instant(as_of, day='end'))}, by {by} time"


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no transaction id: it looks like 019a0000-0000-7000-8000-000000000000") from error
