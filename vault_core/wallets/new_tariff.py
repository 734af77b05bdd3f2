"""A price list as somebody wrote it, before it has a place in the database; what makes its bands whole; how two lists differ.

Amounts are in KES. A list's amounts are whole shillings or cents (`step`): a band begins one step after the one before ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from vault_core.money import ZERO, Money
from vault_core.wallets.fee_parts import Rounding
from vault_core.wallets.tariffs import SHILLING, Tariff


@dataclass(frozen=True, slots=True)
class NewBand:
    """What amounts from `low` to `high`, both included, cost: fields as of TariffBand."""

    low: Money
    high: Money
    fee: Money = ZERO
    customer_fee: Money = ZERO
    rate_basis_points: int = 0
    confirmed: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class NewTariff:
    """One price list: fields as of Tariff. Equal lists have equal content; who imported them, and when, is no part of it."""

    provider: str
    product: str
    valid_from: date
    valid_to: date | None
    source: str
    note: str
    step: Money
    excise_rate_basis_points: int
    excise_included: bool
    rounding: Rounding
    bands: tuple[NewBand, ...]

    @property
    def name(self) -> str:
        """As it is called in messages: 'safaricom b2c of 2023-08-01'."""
        return f"{self.provider} {self.product} of {self.valid_from}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two lists differ, in words."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}"


def content_of(tariff: Tariff) -> NewTariff:
    """The content of a list that stands in the database."""
    return NewTariff(
        provider=tariff.provider,
        product=tariff.product,
        valid_from=tariff.valid_from,
        valid_to=tariff.valid_to,
        source=tariff.source,
        note=tariff.note,
        step=tariff.step,
        excise_rate_basis_points=tariff.excise_rate_basis_points,
        excise_included=tariff.excise_included,
        rounding=tariff.rounding,
        bands=tuple(
            NewBand(band.low, band.high, band.fee, band.customer_fee, band.rate_basis_points, band.confirmed, band.note)
            for band in tariff.bands
        ),
    )


def band_faults(bands: Sequence[NewBand], step: Money, rounding: Rounding) -> Iterator[tuple[int, str]]:
    """What is wrong with each band, by its place in `bands`: its unit, its order, a gap to or an overlap with the one before."""
    before: NewBand | None = None
    for place, band in enumerate(bands):
        if step == SHILLING and not (band.low.is_whole_shillings and band.high.is_whole_shillings):
            yield place, 'has cents in `from` or `to`; write whole shillings, or amounts = "cents" for the list'
        if rounding != "half_up_cent" and not (band.fee.is_whole_shillings and band.customer_fee.is_whole_shillings):
            yield (
                place,
                f'has a fee with cents, and rounding = "{rounding}" is to shillings; write whole shillings or "half_up_cent"',
            )
        if band.high < band.low:
            yield place, f"ends at {amount_text(band.high)}, before it begins at {amount_text(band.low)}; check both"
        elif before is not None:
            yield from ((place, fault) for fault in _succession_faults(before, band, step))
        before = band


def _succession_faults(before: NewBand, band: NewBand, step: Money) -> Iterator[str]:
    due = before.high + step
    if band.low <= before.low:
        yield f"begins at {amount_text(band.low)}, not after the one before ({amount_text(before.low)}); sort the bands by `from`"
    elif band.low < due:
        last = min(band.high, before.high)
        yield f"overlaps the one before from {_span(band.low, last)}; begin it at {amount_text(due)}"
    elif band.low > due:
        yield f"leaves a gap from {_span(due, band.low - step)} that no band covers; begin it at {amount_text(due)}"


def differences(before: NewTariff, after: NewTariff) -> list[Difference]:
    """In what `after` differs from `before`: the list's terms but its dates, then the price of each range of amounts."""
    terms = (
        ("source", before.source, after.source),
        ("note", before.note, after.note),
        ("amounts", amounts_text(before.step), amounts_text(after.step)),
        ("excise", excise_text(before), excise_text(after)),
        ("rounding", before.rounding, after.rounding),
    )
    found = [Difference(what, old or "none", new or "none") for what, old, new in terms if old != new]
    return found + _price_differences(before, after)


def _price_differences(before: NewTariff, after: NewTariff) -> list[Difference]:
    # Every amount at which either list changes its price begins a range; neighbours that differ in the same way are one.
    begins = sorted({cut for one in (before, after) for band in one.bands for cut in (band.low, band.high + one.step)})
    step = min(before.step, after.step)
    ranges: list[tuple[Money, Money, str, str]] = []
    for low, following in pairwise(begins):
        old, new = _price_at(before, low), _price_at(after, low)
        if ranges and ranges[-1][2:] == (old, new) and ranges[-1][1] + step == low:
            ranges[-1] = (ranges[-1][0], following - step, old, new)
        else:
            ranges.append((low, following - step, old, new))
    return [Difference(_span(low, high), old, new) for low, high, old, new in ranges if old != new]


def _price_at(tariff: NewTariff, amount: Money) -> str:
    return next((price_text(band) for band in tariff.bands if band.low <= amount < band.high + tariff.step), "no band")


def price_text(band: NewBand) -> str:
    """What a band costs, in words: '39.00, customer 18.00' or '15 %', and whether that is unconfirmed and why."""
    price = f"{percent_text(band.rate_basis_points)} %" if band.rate_basis_points else amount_text(band.fee)
    customer = f", customer {amount_text(band.customer_fee)}" if band.customer_fee else ""
    return price + customer + ("" if band.confirmed else ", unconfirmed") + (f" ({band.note})" if band.note else "")


def excise_text(tariff: NewTariff | Tariff) -> str:
    """The excise of a list's fees, in words."""
    if not tariff.excise_rate_basis_points:
        return "none"
    where = "inside the fees" if tariff.excise_included else "on top of the fees"
    return f"{percent_text(tariff.excise_rate_basis_points)} % {where}"


def amounts_text(step: Money) -> str:
    """The unit of a list's amounts as its file calls it: 'shillings' or 'cents'."""
    return "shillings" if step == SHILLING else "cents"


def amount_text(amount: Money) -> str:
    """Shillings as a file has them: '1500', '100.01'."""
    return str(amount.cents // 100) if amount.is_whole_shillings else str(amount.as_decimal())


def percent_text(basis_points: int) -> str:
    """1,500 basis points as '15', 1,250 as '12.5'."""
    whole, hundredths = divmod(basis_points, 100)
    return f"{whole}.{hundredths:02}".rstrip("0").rstrip(".")


def _span(low: Money, high: Money) -> str:
    return f"{amount_text(low)} to {amount_text(high)}"
