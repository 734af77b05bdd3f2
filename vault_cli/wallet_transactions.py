"""`vault wallet transactions`: the partner's own view of its wallet."""

import csv
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_cli.moments import read_instant, shown
from vault_cli.session import run
from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.ledger.snapshot import ledger_snapshot
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.wallets.wallet_transactions import FeeLine, WalletTransaction, list_wallet_transactions

console = Console(soft_wrap=True, highlight=False)
_PAGE = 1_000

Name = Annotated[str, typer.Argument(help="The partner's short name.")]
From = Annotated[str | None, typer.Option("--from", help="Booked from: a Nairobi day or an ISO instant; the first if left out.")]
To = Annotated[str | None, typer.Option("--to", help="Booked up to: a Nairobi day (included) or an ISO instant.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")]


def transactions(
    name: Name,
    start: From = None,
    end: To = None,
    most: Most = 50,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV: one row a movement, amounts as decimal text.")] = False,
) -> None:
    """What moved a wallet, newest first: when, why, how much, what was charged in it, and what was left.

    JSON: [{"at", "booked_at", "carried_from", "kind", "words", "reference", "amount_cents", "fee_lines": [{"line",
    "amount_cents", "tariff"}], "balance_after_cents", "transaction", "version"}]
    """

    async def work(runtime: Runtime) -> list[WalletTransaction]:
        if json_ and csv_:
            raise InvalidInput("--json and --csv: choose one")
        low = None if start is None else read_instant(start, day="start")
        # What is booked at this moment belongs to now.
        high = runtime.clock.now() + timedelta(seconds=1) if end is None else read_instant(end, day="end")
        found: list[WalletTransaction] = []
        async with ledger_snapshot(runtime.engine) as connection:
            partner = await load_partner(connection, name=name)
            while len(found) < most:
                page = await list_wallet_transactions(
                    connection,
                    partner.id,
                    start=low,
                    end=high,
                    below=found[-1].version if found else None,
                    most=min(_PAGE, most - len(found)),
                )
                if not page:
                    break
                found += page
        return found

    found = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    elif csv_:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_csv_rows(found))
    elif found:
        _print(found)
    else:
        console.print("nothing moved the wallet then" if start or end else "nothing has moved the wallet yet")


def _as_json(one: WalletTransaction) -> dict[str, Any]:
    return {
        "at": one.at.isoformat(),
        "booked_at": one.booked_at.isoformat(),
        "carried_from": one.carried_from.isoformat() if one.carried_from else None,
        "kind": one.kind,
        "words": one.words,
        "reference": one.reference,
        "amount_cents": one.amount.cents,
        "fee_lines": [{"line": line.line, "amount_cents": line.amount.cents, "tariff": line.tariff} for line in one.fee_lines],
        "balance_after_cents": one.balance_after.cents,
        "transaction": str(one.transaction_id),
        "version": one.version,
    }


def _csv_rows(found: list[WalletTransaction]) -> Iterator[list[str]]:
    yield ["at", "booked_at", "kind", "what", "reference", "amount", "fee_lines", "balance_after", "transaction"]
    for one in found:
        yield [
            one.at.astimezone(NAIROBI).isoformat(),
            one.booked_at.astimezone(NAIROBI).isoformat(),
            one.kind,
            one.words,
            one.reference,
            str(one.amount.as_decimal()),
            "; ".join(f"{line.line} {line.amount.as_decimal()}" for line in one.fee_lines),
            str(one.balance_after.as_decimal()),
            str(one.transaction_id),
        ]


def _print(found: list[WalletTransaction]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("balance after", justify="right", no_wrap=True)
    for one in found:
        words = escape(one.words)
        # One fee is said by the words already; several are what a reader wants apart.
        if len(one.fee_lines) > 1:
            words += f"\n[dim]{escape(', '.join(_fee(line) for line in one.fee_lines))}[/]"
        table.add_row(shown(one.at), words, str(one.amount), str(one.balance_after))
    console.print(table)


def _fee(line: FeeLine) -> str:
    return f"{line.words} {line.amount}"
