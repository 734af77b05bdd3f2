"""How price lists are shown: tables for people, JSON with stable keys for programs (docs/tariffs.md)."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_core.money import Money
from vault_core.wallets.new_tariff import Difference, excise_text, percent_text
from vault_core.wallets.tariff_import import Imported
from vault_core.wallets.tariffs import NO_END, Tariff

console = Console(soft_wrap=True, highlight=False)


def tariff_json(tariff: Tariff) -> dict[str, Any]:
    """A list as `vault tariff list --json` prints it. Keys are only ever added."""
    return {
        "provider": tariff.provider,
        "product": tariff.product,
        "valid_from": str(tariff.valid_from),
        "valid_to": str(tariff.valid_to) if tariff.valid_to else None,
        "bands": len(tariff.bands),
        "unconfirmed_bands": tariff.unconfirmed,
        "excise_basis_points": tariff.excise_rate_basis_points,
        "excise_included": tariff.excise_included,
        "rounding": tariff.rounding,
        "source": tariff.source,
        "note": tariff.note,
        "imported_by": tariff.imported_by,
    }


def tariff_with_bands_json(tariff: Tariff) -> dict[str, Any]:
    """A list as `vault tariff show --json` prints it: the same, with `bands` as a list."""
    return tariff_json(tariff) | {
        "bands": [
            {
                "id": band.id,
                "from_cents": band.low.cents,
                "to_cents": band.high.cents,
                "fee_cents": band.fee.cents,
                "customer_fee_cents": band.customer_fee.cents,
                "rate_basis_points": band.rate_basis_points,
                "confirmed": band.confirmed,
                "note": band.note,
            }
            for band in tariff.bands
        ]
    }


def imported_json(done: Imported) -> dict[str, Any]:
    """What an import did, as `vault tariff import --json` prints it."""
    return {
        "provider": done.tariff.provider,
        "product": done.tariff.product,
        "valid_from": str(done.tariff.valid_from),
        "repeated": done.repeated,
        "ended": None if done.ended is None else str(done.ended.valid_from),
        "unpriced_from": None if done.unpriced_from is None else str(done.unpriced_from),
        "unconfirmed_bands": sum(not band.confirmed for band in done.tariff.bands),
        "changes": differences_json(done.changes),
    }


def differences_json(found: Iterable[Difference]) -> list[dict[str, str]]:
    """Differences, as commands print them in JSON."""
    return [{"what": one.what, "before": one.before, "after": one.after} for one in found]


def print_tariffs(tariffs: Sequence[Tariff]) -> None:
    """Two lines a list, which are read on any width: what it is, and where it comes from."""
    for tariff in tariffs:
        until = f"before {tariff.valid_to}" if tariff.valid_to else "further notice"
        told = f"{tariff.provider} {tariff.product}, from {tariff.valid_from} until {until}: {_counted(tariff)}"
        if tariff.excise_rate_basis_points:
            told += f"; excise {excise_text(tariff)}"
        console.print(told, markup=False)
        console.print(f"    {tariff.source}", style="dim", markup=False)


def _counted(tariff: Tariff) -> str:
    bands = f"{len(tariff.bands)} {'band' if len(tariff.bands) == 1 else 'bands'}"
    return f"{bands}, {tariff.unconfirmed} unconfirmed" if tariff.unconfirmed else bands


def print_tariff(tariff: Tariff) -> None:
    """A list with its bands."""
    until = f"before {tariff.valid_to}" if tariff.valid_to else "further notice"
    console.print(f"{tariff.provider} {tariff.product}, from {tariff.valid_from} until {until}", markup=False)
    console.print(f"source: {tariff.source}", markup=False)
    if tariff.note:
        console.print(f"note: {tariff.note}", markup=False)
    console.print(f"excise: {excise_text(tariff)}; rounding: {tariff.rounding}; imported by {tariff.imported_by}", markup=False)
    customers = any(band.customer_fee for band in tariff.bands)
    price_is = "rate" if all(band.rate_basis_points for band in tariff.bands) else "business pays"
    table = Table(box=None, pad_edge=False)
    for name in ("from", "to", price_is, *(("customer pays",) if customers else ())):
        table.add_column(name, justify="right")
    table.add_column("")
    for band in tariff.bands:
        price = f"{percent_text(band.rate_basis_points)} %" if band.rate_basis_points else _shillings(band.fee)
        mark = "" if band.confirmed else f"[yellow]unconfirmed[/]: {escape(band.note)}"
        customer = (_shillings(band.customer_fee),) if customers else ()
        high = "any" if band.high == NO_END else _shillings(band.high)
        table.add_row(_shillings(band.low), high, price, *customer, mark or escape(band.note))
    console.print(table)


def print_import(done: Imported, *, dry_run: bool) -> None:
    """What an import did or would do."""
    if done.repeated:
        console.print(f"{done.tariff.name} stands already with the same content: nothing changed", markup=False)
        return
    would = "would be" if dry_run else "is"
    console.print(f"{done.tariff.name} {would} imported, with {len(done.tariff.bands)} bands", markup=False)
    unconfirmed = sum(not band.confirmed for band in done.tariff.bands)
    if unconfirmed:
        console.print(f"[yellow]{unconfirmed} unconfirmed[/]: no source states them")
    if done.against is None:
        console.print("there is no list of this product before it", markup=False)
    if done.ended is not None:
        console.print(f"the list of {done.ended.valid_from} {would} ended by it", markup=False)
    if done.unpriced_from is not None:
        console.print(f"[yellow]no list holds from {done.unpriced_from} until it begins[/]: charges of these days are refused")
    if done.against is not None:
        print_differences(done.changes, f"the list of {done.against.valid_from}")
    if dry_run:
        console.print("dry run: nothing was changed", markup=False)


def print_differences(found: Sequence[Difference], against: str) -> None:
    """In what a list differs from another, a line each."""
    if not found:
        console.print(f"no difference to {against}", markup=False)
        return
    console.print(f"differences to {against}:", markup=False)
    for one in found:
        console.print(f"  {one}", markup=False)


def _shillings(amount: Money) -> str:
    return f"{amount.as_decimal():,.2f}"
