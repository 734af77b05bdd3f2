"""How the ledger is shown: tables for people, JSON with stable keys for programs (docs/ledger.md)."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_cli.moments import shown
from vault_core.clock import NAIROBI
from vault_core.ledger.account_names import MEANINGS, account_name
from vault_core.ledger.balances import Balance, TrialLine
from vault_core.ledger.chart import CHART, ChartAccount
from vault_core.ledger.export import Totals
from vault_core.ledger.statement import Statement, StatementLine
from vault_core.ledger.transaction import BookedTransaction
from vault_core.money import ZERO, Money

console = Console(soft_wrap=True, highlight=False)
_OUR_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_A_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One account as `ledger balances` shows it; `standing` only for now."""

    account: str
    balance: Money
    standing: Balance | None

    @classmethod
    def of(cls, line: TrialLine, account: str, standing: Balance | None) -> "BalanceRow":
        """The row of a trial balance's line, under the account's name."""
        return cls(account, line.balance, standing)

    def as_json(self) -> dict[str, Any]:
        """The documented keys."""
        return {
            "account": self.account,
            "balance_cents": self.balance.cents,
            "held_cents": None if self.standing is None else self.standing.held.cents,
            "available_cents": None if self.standing is None else self.standing.available.cents,
        }


def chart_json(account: ChartAccount) -> dict[str, Any]:
    """One account of the chart."""
    owner = "house" if account.house else "partner"
    return {
        "account": account.code,
        "owner": owner,
        "normal_side": account.normal_side,
        "means": MEANINGS.get(account.code, ""),
    }


def print_chart() -> None:
    """The chart of accounts, the partners' first."""
    table = _table("account", "grows by", "what it is")
    for account in CHART.values():
        owner = "house" if account.house else "PARTNER"
        table.add_row(f"{owner}/{account.code}", account.normal_side, MEANINGS.get(account.code, ""))
    console.print(table)


def print_balances(rows: Sequence[BalanceRow], when: str) -> None:
    """Balances in each account's normal side."""
    if not rows:
        console.print(f"no account has been used yet ({when})")
        return
    now = any(row.standing is not None for row in rows)
    table = _table("account", ">balance", *((">held", ">available") if now else ()), title=f"Balances, {when}")
    for row in rows:
        held = row.standing.held if row.standing else ZERO
        on_hold = (str(held), str(row.balance - held)) if held else ("", "")
        table.add_row(row.account, str(row.balance), *(on_hold if now else ()))
    console.print(table)


def by_name(lines: Sequence[TrialLine], names: Mapping[UUID, str]) -> list[tuple[str, TrialLine]]:
    """The lines with their accounts' names: the house's first, then the partners' by name."""
    named = [(account_name(line.account, names), line) for line in lines]
    return sorted(named, key=lambda pair: (pair[1].account.partner_id is not None, pair[0]))


def trial_json(lines: Sequence[tuple[str, TrialLine]]) -> dict[str, Any]:
    """The trial balance with its two sums."""
    return {
        "debit_cents": sum(line.debit.cents for _, line in lines),
        "credit_cents": sum(line.credit.cents for _, line in lines),
        "accounts": [
            {"account": name, "debit_cents": line.debit.cents, "credit_cents": line.credit.cents} for name, line in lines
        ],
    }


def print_trial(lines: Sequence[tuple[str, TrialLine]], when: str) -> None:
    """The trial balance with its two sums and what they say."""
    table = _table("account", ">debit", ">credit", title=f"Trial balance, {when}", show_footer=True)
    debit = sum((line.debit for _, line in lines), ZERO)
    credit = sum((line.credit for _, line in lines), ZERO)
    for column, total in zip(table.columns, ("total", str(debit), str(credit)), strict=True):
        column.footer = total
    for name, line in lines:
        table.add_row(name, _or_blank(line.debit), _or_blank(line.credit))
    console.print(table)
    if debit == credit:
        console.print("[bold green]debits and credits agree[/]")
    else:
        console.print(f"[bold red]debits exceed credits by {debit - credit}[/]: run `vault verify`")


async def print_statement(account: str, head: Statement, lines: AsyncGenerator[StatementLine], *, most: int) -> None:
    """The statement as a table, its first `most` lines."""
    span = f"from {shown(head.start)} to {until(head.end)}, by {head.by} time"
    table = _table("when", "what", ">debit", ">credit", ">balance", title=f"{account}, {span}")
    table.add_row(shown(head.start), "[bold]opening balance[/]", "", "", f"[bold]{head.opening}[/]")
    printed, more = 0, False
    debit = credit = ZERO
    async with aclosing(lines):
        async for line in lines:
            if printed == most:
                more = True
                break
            printed += 1
            debit, credit = debit + line.debit, credit + line.credit
            when = shown(line.effective_at if head.by == "effective" else line.booked_at)
            table.add_row(when, _what(line), _or_blank(line.debit), _or_blank(line.credit), str(line.balance))
    if more:
        table.add_row("...", "more lines: --most, or --file for all", "", "", "")
    else:
        table.add_row("", "[bold]sums[/]", f"[bold]{debit}[/]", f"[bold]{credit}[/]", "")
    table.add_row(shown(head.end), "[bold]closing balance[/]", "", "", f"[bold]{head.closing}[/]")
    console.print(table)


async def write_statement_json(account: str, head: Statement, lines: AsyncIterator[StatementLine]) -> None:
    """The statement as one JSON object, written as its lines are read."""
    frame = {
        "account": account,
        "by": head.by,
        "from": head.start.isoformat(),
        "to": head.end.isoformat(),
        "opening_cents": head.opening.cents,
        "closing_cents": head.closing.cents,
    }
    typer.echo(json.dumps(frame)[:-1] + ', "lines": [', nl=False)
    first = True
    async for line in lines:
        typer.echo(("" if first else ", ") + json.dumps(_line_json(line)), nl=False)
        first = False
    typer.echo("]}")


def print_written(file: Path | None, totals: Totals, *, json_: bool) -> None:
    """What an export wrote, with its totals."""
    if json_:
        figures = {"entries": totals.entries, "debit_cents": totals.debit.cents, "credit_cents": totals.credit.cents}
        typer.echo(json.dumps({"file": str(file), **figures}))
    else:
        console.print(
            f"{totals.entries:,} entries written to {file}: debits {totals.debit}, credits {totals.credit}", markup=False
        )


def transaction_json(found: BookedTransaction, names: Mapping[UUID, str]) -> dict[str, Any]:
    """One transaction with all that is known of it."""
    seal = found.seal
    return {
        "id": str(found.id),
        "partner": None if found.partner_id is None else names.get(found.partner_id),
        "kind": found.kind,
        "reference": found.reference,
        "key": found.key,
        "description": found.description,
        "effective_at": found.effective_at.isoformat(),
        "booked_at": found.booked_at.isoformat(),
        "carried_from": found.carried_from.isoformat() if found.carried_from else None,
        "reverses": str(found.reverses) if found.reverses else None,
        "reversed_by": str(found.reversed_by) if found.reversed_by else None,
        "seal": seal and {"number": seal.number, "sealed_at": seal.sealed_at.isoformat(), "chain": seal.chain},
        "legs": [
            {
                "leg": leg.leg,
                "account": account_name(leg.account, names),
                "debit_cents": leg.debit.cents,
                "credit_cents": leg.credit.cents,
                "account_row": leg.row,
                "account_version": leg.version,
            }
            for leg in found.legs
        ],
    }


def print_transaction(found: BookedTransaction, names: Mapping[UUID, str]) -> None:
    """The transaction's facts, then its legs."""
    facts = {
        "kind": found.kind,
        "reference": found.reference,
        "description": found.description or "-",
        "key": found.key,
        "effective": _to_the_second(found.effective_at),
        "booked": _to_the_second(found.booked_at),
        "carried from": _to_the_second(found.carried_from) if found.carried_from else None,
        "reverses": found.reverses,
        "reversed by": found.reversed_by,
        "seal": f"{found.seal.number} of {_to_the_second(found.seal.sealed_at)}" if found.seal else "not sealed yet",
    }
    table = Table(title=f"Transaction {found.id}", show_header=False, box=None, pad_edge=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, escape(str(value)))
    console.print(table)
    legs = _table("leg", "account", ">debit", ">credit", "entry of its row")
    for leg in found.legs:
        name = account_name(leg.account, names)
        legs.add_row(str(leg.leg), name, _or_blank(leg.debit), _or_blank(leg.credit), f"{leg.version} of row {leg.row}")
    console.print(legs)


def until(moment: datetime) -> str:
    """The instant before which everything counts, in words: a midnight is the end of the day before it."""
    local = moment.astimezone(NAIROBI)
    if (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0):
        return f"the end of {(local - _A_TICK).date()}"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def _what(line: StatementLine) -> str:
    words = [line.kind.replace("_", " ")]
    if not _OUR_ID.fullmatch(line.reference):  # an id of ours says nothing to a reader; files and JSON have it
        words.append(line.reference)
    if line.description:
        words.append(f"({line.description})")
    if line.carried_from is not None:
        words.append(f"[of {shown(line.carried_from)}, after closing]")
    return escape(" ".join(words))


def _line_json(line: StatementLine) -> dict[str, Any]:
    return {
        "transaction": str(line.transaction_id),
        "effective_at": line.effective_at.isoformat(),
        "booked_at": line.booked_at.isoformat(),
        "carried_from": line.carried_from.isoformat() if line.carried_from else None,
        "kind": line.kind,
        "reference": line.reference,
        "description": line.description,
        "debit_cents": line.debit.cents,
        "credit_cents": line.credit.cents,
        "balance_cents": line.balance.cents,
    }


def _to_the_second(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S} Nairobi"


def _or_blank(amount: Money) -> str:
    return str(amount) if amount else ""


def _table(*headings: str, title: str | None = None, show_footer: bool = False) -> Table:
    """A table of the house's look; a heading that begins with > is of a column of amounts."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_footer=show_footer)
    for heading in headings:
        amounts = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if amounts else "left", no_wrap=amounts, overflow="fold")
    return table
