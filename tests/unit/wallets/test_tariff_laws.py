"""Laws of price lists: what is written reads back; what breaks order or leaves a gap is refused; differences say all."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money
from vault_core.wallets.fee_parts import ROUNDINGS
from vault_core.wallets.new_tariff import NewBand, NewTariff, differences
from vault_core.wallets.tariff_csv import write_csv
from vault_core.wallets.tariff_file import parse_tariff
from vault_core.wallets.tariff_toml import write_toml

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
# What a line may hold: anything printable, quotes, commas and backslashes among it.
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S"), include_characters=" "), max_size=60).map(
    "x{}x".format
)
DAYS = st.dates(date(2000, 1, 1), date(2090, 1, 1))
WRITERS = {"toml": write_toml, "csv": write_csv}


@st.composite
def tariffs(draw: st.DrawFn, *, least_bands: int = 1) -> NewTariff:
    step = Money(draw(st.sampled_from([1, 100])))
    rounding = draw(st.sampled_from(ROUNDINGS))
    unit = 1 if rounding == "half_up_cent" else 100
    fees = st.integers(0, 50_000).map(lambda many: Money(many * unit))
    bands = []
    low = step * draw(st.integers(0, 100))
    for width in draw(st.lists(st.integers(0, 10_000), min_size=least_bands, max_size=8)):
        high = low + step * width
        confirmed = draw(st.booleans())
        rate = draw(st.sampled_from([0, 0, 1, 1_250, 1_500, 10_000]))
        bands.append(
            NewBand(
                low=low,
                high=high,
                fee=ZERO if rate else draw(fees),
                customer_fee=ZERO if rate else draw(fees),
                rate_basis_points=rate,
                confirmed=confirmed,
                note=draw(st.just("") | TEXTS) if confirmed else draw(TEXTS),
            )
        )
        low = high + step
    valid_from = draw(DAYS)
    return NewTariff(
        provider=draw(NAMES),
        product=draw(NAMES),
        valid_from=valid_from,
        valid_to=draw(st.none() | st.integers(1, 5_000).map(lambda days: valid_from + timedelta(days))),
        source=draw(TEXTS),
        note=draw(st.just("") | TEXTS),
        step=step,
        excise_rate_basis_points=draw(st.integers(0, 10_000)),
        excise_included=draw(st.booleans()),
        rounding=rounding,
        bands=tuple(bands),
    )


@pytest.mark.parametrize("form", WRITERS)
@settings(max_examples=60, deadline=None)
@given(tariff=tariffs())
def test_a_list_that_is_written_out_reads_back_as_the_same(form: str, tariff: NewTariff) -> None:
    assert parse_tariff(f"list.{form}", WRITERS[form](tariff).encode()) == tariff


@settings(max_examples=100, deadline=None)
@given(tariff=tariffs(least_bands=2), data=st.data())
def test_bands_that_are_moved_swapped_doubled_or_lost_are_refused(tariff: NewTariff, data: st.DataObject) -> None:
    bands = list(tariff.bands)
    place = data.draw(st.integers(1, len(bands) - 1))
    change = data.draw(st.sampled_from(["move", "swap", "double", "lose"]))
    if change == "move":
        by = data.draw(st.integers(-200, 200).filter(bool))
        moved = bands[place].low.cents + by
        bands[place] = replace(bands[place], low=Money(max(0, moved)))
    elif change == "swap":
        bands[place - 1], bands[place] = bands[place], bands[place - 1]
    elif change == "double":
        bands.insert(place, bands[place])
    elif place < len(bands) - 1:
        del bands[place]
    else:
        return  # the last band may go: the list ends earlier
    with pytest.raises(InvalidInput, match=r"list\.toml:\d+: this band"):
        parse_tariff("list.toml", write_toml(replace(tariff, bands=tuple(bands))).encode())


LIST = NewTariff(
    provider="safaricom",
    product="b2c",
    valid_from=date(2023, 8, 1),
    valid_to=None,
    source="form",
    note="",
    step=Money(100),
    excise_rate_basis_points=1_500,
    excise_included=True,
    rounding="half_up_cent",
    bands=(
        NewBand(Money(1_00), Money(100_00)),
        NewBand(Money(101_00), Money(1_500_00), fee=Money(5_00)),
        NewBand(Money(1_501_00), Money(5_000_00), fee=Money(9_00)),
    ),
)


def test_a_list_does_not_differ_from_itself() -> None:
    assert differences(LIST, LIST) == []


def test_differences_are_told_by_range_of_amounts_however_the_bands_are_cut() -> None:
    new = replace(
        LIST,
        bands=(
            NewBand(Money(1_00), Money(1_500_00), fee=Money(5_00)),
            NewBand(Money(1_501_00), Money(2_500_00), fee=Money(9_00)),
            NewBand(Money(2_501_00), Money(5_000_00), fee=Money(10_00), customer_fee=Money(1_00)),
            NewBand(Money(5_001_00), Money(9_000_00), fee=Money(12_00), confirmed=False, note="guess"),
        ),
    )
    assert [str(one) for one in differences(LIST, new)] == [
        "1 to 100: 0 -> 5",
        "2501 to 5000: 9 -> 10, customer 1",
        "5001 to 9000: no band -> 12, unconfirmed (guess)",
    ]


def test_terms_that_differ_are_told_by_name() -> None:
    new = replace(LIST, source="other", excise_rate_basis_points=2_000, rounding="up_shilling", note="new", excise_included=False)
    assert [str(one) for one in differences(LIST, new)] == [
        "source: form -> other",
        "note: none -> new",
        "excise: 15 % inside the fees -> 20 % on top of the fees",
        "rounding: half_up_cent -> up_shilling",
    ]


def test_a_list_in_cents_is_compared_with_one_in_shillings() -> None:
    cents = replace(
        LIST,
        step=Money(1),
        bands=(
            NewBand(Money(1_00), Money(100_00)),
            NewBand(Money(100_01), Money(1_500_00), fee=Money(5_00)),
            NewBand(Money(1_500_01), Money(5_000_00), fee=Money(9_00)),
        ),
    )
    assert [str(one) for one in differences(LIST, cents)] == [
        "amounts: shillings -> cents",
        "100.01 to 100.99: 0 -> 5",
        "1500.01 to 1500.99: 5 -> 9",
        "5000.01 to 5000.99: 9 -> no band",
    ]


@settings(max_examples=60, deadline=None)
@given(before=tariffs(), after=tariffs())
def test_lists_without_a_difference_price_every_amount_alike(before: NewTariff, after: NewTariff) -> None:
    told = {one.what for one in differences(before, after)}
    for band in (*before.bands, *after.bands):
        prices = {
            next(((b.fee, b.customer_fee, b.rate_basis_points) for b in one.bands if b.low <= band.low <= b.high), None)
            for one in (before, after)
        }
        if len(prices) > 1:
            assert any(" to " in what for what in told)
