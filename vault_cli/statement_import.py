"""`vault collections import-statement`: payments of a statement from the M-Pesa portal that nothing else told of."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vault_cli.session import actor, run
from vault_core.clock import NAIROBI
from vault_core.collections.statement_import import (
    ImportReport,
    Statement,
    bad_rows_text,
    import_statement,
    preview_statement,
)
from vault_core.errors import InvalidInput
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)


def import_statement_command(
    file: Annotated[Path, typer.Argument(help="The statement as downloaded: CSV or XLSX.")],
    partner: Annotated[str, typer.Option(help="The partner whose pay bill it is of.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be booked; book nothing.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Book the customers' payments of a statement that are missing here. What is known already does no harm; audited.

    JSON: {"dry_run", "rows", "booked", "booked_cents", "above_limit": [receipts], "known", "conflicts": [receipts],
    "not_payments": {kind: rows}, "bad": [{"line", "cause"}], "bad_rows", "first_at", "last_at"}
    """
    statement = _read(file)

    async def work(runtime: Runtime) -> ImportReport:
        async with runtime.engine.connect() as connection:
            whose = await load_partner(connection, name=partner)
        if dry_run:
            return await preview_statement(runtime, whose, statement)
        return await import_statement(runtime, whose, statement, actor=actor(), skip_bad=skip_bad)

    report = run(work)
    if json_:
        typer.echo(json.dumps(_as_json(report, dry_run=dry_run)))
    else:
        _print(report, dry_run=dry_run)


def _read(file: Path) -> Statement:
    try:
        return Statement(file.name, file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"the statement {file} cannot be read: {error.strerror}") from error


def _as_json(report: ImportReport, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "rows": report.rows,
        "booked": report.booked,
        "booked_cents": report.booked_amount.cents,
        "above_limit": report.above_limit,
        "known": report.known,
        "conflicts": report.conflicts,
        "not_payments": dict(report.not_payments),
        "bad": [{"line": row.line, "cause": row.cause} for row in report.bad],
        "bad_rows": report.bad_count,
        "first_at": None if report.first_at is None else report.first_at.isoformat(),
        "last_at": None if report.last_at is None else report.last_at.isoformat(),
    }


def _print(report: ImportReport, *, dry_run: bool) -> None:
    if report.first_at is not None and report.last_at is not None:
        first, last = (f"{at.astimezone(NAIROBI):%Y-%m-%d %H:%M}" for at in (report.first_at, report.last_at))
        console.print(f"{report.rows} rows, payments from {first} to {last}")
    else:
        console.print(f"{report.rows} rows, no payment among them")
    console.print(f"{'would be booked' if dry_run else 'booked'}: {report.booked} for {report.booked_amount}")
    if report.above_limit:
        what = "above what one person assigns alone, so two people assign them from suspense"
        console.print(f"[yellow]{what}:[/] {', '.join(report.above_limit)}")
    console.print(f"known already: {report.known}")
    if report.conflicts:
        what = "each would open a case" if dry_run else "a case is open for each"
        console.print(f"[yellow]known with another amount[/] ({what}): {', '.join(report.conflicts)}")
    for kind, rows in sorted(report.not_payments.items()):
        console.print(f"passed by, no payment of a customer: {rows} x {escape(kind)}")
    if report.bad_count and dry_run:
        console.print(f"[yellow]{escape(bad_rows_text(report))}[/]")
    elif report.bad_count:
        console.print(f"[yellow]left out, because they cannot be read:[/] {report.bad_count}")
