"""`vault tariff ...`: the dated price lists that charges are made from (docs/tariffs.md)."""

import json
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vault_cli.session import actor, failures_told, run
from vault_cli.tariff_view import (
    console,
    differences_json,
    imported_json,
    print_differences,
    print_import,
    print_tariff,
    print_tariffs,
    tariff_json,
    tariff_with_bands_json,
)
from vault_core.clock import business_day
from vault_core.errors import ConfigurationError, InvalidInput, NotFound
from vault_core.runtime import Runtime
from vault_core.wallets.new_tariff import Difference, content_of, differences
from vault_core.wallets.tariff_csv import write_csv
from vault_core.wallets.tariff_file import load_tariff_file
from vault_core.wallets.tariff_import import Imported, compare, end_tariff, import_tariff, withdraw_tariff
from vault_core.wallets.tariff_toml import write_toml
from vault_core.wallets.tariffs import Tariff, TariffBook, load_tariffs

app = typer.Typer(no_args_is_help=True, help="Price lists: M-Pesa's fees and the excise on fees, by date.")

Provider = Annotated[str, typer.Argument(help="Whose list: safaricom, kra.")]
Product = Annotated[
    str, typer.Argument(help="Of what: b2c, b2c_withdrawal_paid, c2b_business, c2b_mgao, c2b_customer, excise_fees.")
]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


class Form(StrEnum):
    """The forms in which a list can be written out."""

    TOML = "toml"
    CSV = "csv"


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The price list, .toml or .csv.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it in full and show what would change; change nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Bring a price list into force from its first day on; the list before it ends there. The same list again changes nothing.

    JSON: {"provider", "product", "valid_from", "repeated", "ended", "unpriced_from", "unconfirmed_bands", "changes": [{"what",
    "before", "after"}], "dry_run"}
    """
    with failures_told():
        new = load_tariff_file(file)

    async def work(runtime: Runtime) -> Imported:
        return await import_tariff(runtime, new, actor(), dry_run=dry_run)

    done = run(work)
    if json_:
        typer.echo(json.dumps(imported_json(done) | {"dry_run": dry_run}, indent=2))
    else:
        print_import(done, dry_run=dry_run)


@app.command("list")
def list_(
    product: Annotated[str | None, typer.Option(help="Only of this product.")] = None,
    on: Annotated[str | None, typer.Option(help="Only what is in force on this day, year-month-day.")] = None,
    json_: Json = False,
) -> None:
    """List the price lists, by product and first day, with how many bands no source states.

    JSON: [{"provider", "product", "valid_from", "valid_to", "bands", "unconfirmed_bands", "excise_basis_points",
    "excise_included", "rounding", "source", "note", "imported_by"}]
    """
    with failures_told():
        day = None if on is None else _day(on)
    chosen = [
        tariff
        for tariff in sorted(run(_book).tariffs, key=lambda tariff: (tariff.provider, tariff.product, tariff.valid_from))
        if product in (None, tariff.product) and (day is None or tariff.holds_on(day))
    ]
    if json_:
        typer.echo(json.dumps([tariff_json(tariff) for tariff in chosen], indent=2))
    elif chosen:
        print_tariffs(chosen)
    else:
        console.print("no price list")


@app.command()
def show(
    provider: Provider,
    product: Product,
    on: Annotated[str | None, typer.Option(help="The day, year-month-day; today if left out.")] = None,
    form: Annotated[Form | None, typer.Option("--as", help="Write it as a file to import.")] = None,
    json_: Json = False,
) -> None:
    """Show the price list in force on a day: its bands, and which of them no source states.

    JSON: as `tariff list`, "bands": [{"id", "from_cents", "to_cents", "fee_cents", "customer_fee_cents", "rate_basis_points",
    "confirmed", "note"}]
    """

    async def work(runtime: Runtime) -> Tariff:
        day = business_day(runtime.clock.now()) if on is None else _day(on)
        return _in_force(await _book(runtime), provider, product, day)

    tariff = run(work)
    if json_:
        typer.echo(json.dumps(tariff_with_bands_json(tariff), indent=2))
    elif form is not None:
        typer.echo((write_toml if form is Form.TOML else write_csv)(content_of(tariff)), nl=False)
    else:
        print_tariff(tariff)


@app.command()
def diff(
    what: Annotated[
        list[str], typer.Argument(metavar="FILE | PROVIDER PRODUCT DAY DAY", help="A file, or a product and two days.")
    ],
    json_: Json = False,
) -> None:
    """Compare a file with the list that begins on its day, or the lists of two days. Ends with 1 if they differ.

    JSON: {"against", "differences": [{"what", "before", "after"}]}
    """

    async def work(runtime: Runtime) -> tuple[str, list[Difference]]:
        book = await _book(runtime)
        if len(what) == 1:
            return _against_file(book, Path(what[0]))
        provider, product, first, second = what
        before, after = (_in_force(book, provider, product, _day(day)) for day in (first, second))
        return before.name, differences(content_of(before), content_of(after))

    if len(what) not in (1, 4):
        raise typer.BadParameter("write a file, or PROVIDER PRODUCT DAY DAY", param_hint="what")
    against, found = run(work)
    if json_:
        typer.echo(json.dumps({"against": against, "differences": differences_json(found)}, indent=2))
    else:
        print_differences(found, against)
    raise typer.Exit(1 if found else 0)


@app.command()
def end(
    provider: Provider,
    product: Product,
    day: Annotated[str, typer.Argument(help="The first day on which the list no longer holds, year-month-day.")],
    reason: Reason,
    json_: Json = False,
) -> None:
    """End a price list that no other follows. Refused if charges of that day or later used it.

    JSON: as one of `tariff list`
    """

    async def work(runtime: Runtime) -> Tariff:
        return await end_tariff(runtime, provider, product, _day(day), actor(), reason)

    ended = run(work)
    if json_:
        typer.echo(json.dumps(tariff_json(ended), indent=2))
    else:
        console.print(f"{ended.name} ends before {day}", markup=False)


@app.command()
def withdraw(
    provider: Provider,
    product: Product,
    valid_from: Annotated[str, typer.Argument(help="The first day of the list to take back, year-month-day.")],
    reason: Reason,
    json_: Json = False,
) -> None:
    """Take back a price list that no charge has used, as one imported with a mistake. The list that it ended holds on.

    JSON: {"resumed": the list that holds on in its place, as one of `tariff list`, or null}
    """

    async def work(runtime: Runtime) -> Tariff | None:
        return await withdraw_tariff(runtime, provider, product, _day(valid_from), actor(), reason)

    resumed = run(work)
    if json_:
        typer.echo(json.dumps({"resumed": tariff_json(resumed) if resumed else None}, indent=2))
        return
    console.print(f"{provider} {product} of {valid_from} is withdrawn", markup=False)
    if resumed is not None:
        until = f"before {resumed.valid_to}" if resumed.valid_to else "further notice"
        console.print(f"the list of {resumed.valid_from} holds on until {until}", markup=False)


async def _book(runtime: Runtime) -> TariffBook:
    async with runtime.engine.connect() as connection:
        return await load_tariffs(connection)


def _in_force(book: TariffBook, provider: str, product: str, day: date) -> Tariff:
    try:
        return book.tariff(provider, product, day)
    except ConfigurationError as error:
        raise NotFound(f"{error}; `vault tariff list` shows what there is") from error


def _against_file(book: TariffBook, file: Path) -> tuple[str, list[Difference]]:
    new = load_tariff_file(file)
    standing, found = compare(book, new)
    if standing is None:
        absent = f"no {new.provider} {new.product} list begins on {new.valid_from}"
        raise NotFound(f"{absent}: `vault tariff import {file} --dry-run` shows what it would change")
    return standing.name, found


def _day(written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise InvalidInput(f"{written!r} is not a day: write year-month-day, as 2026-11-24") from None
