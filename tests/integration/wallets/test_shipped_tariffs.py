"""The price lists a fresh installation starts with, against the figures of reference/daraja.md section 9."""

from datetime import date

import pytest

from vault_core.errors import ConfigurationError
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.tariffs import TariffBook, load_tariffs

DAY = date(2026, 11, 24)
BANDS = [  # from, to, plain, with the withdrawal paid
    (1, 49, 0, 0),
    (50, 100, 0, 11),
    (101, 1_500, 5, 34),
    (1_501, 2_500, 9, 38),
    (2_501, 3_500, 9, 61),
    (3_501, 5_000, 9, 78),
    (5_001, 7_500, 11, 98),
    (7_501, 10_000, 11, 126),
    (10_001, 15_000, 11, 178),
    (15_001, 20_000, 11, 196),
    (20_001, 35_000, 13, 210),
    (35_001, 50_000, 13, 291),
    (50_001, 150_000, 13, 322),
    (150_001, 250_000, 13, 322),
]


@pytest.fixture
async def book(runtime: Runtime) -> TariffBook:
    async with runtime.engine.connect() as connection:
        return await load_tariffs(connection)


async def test_every_band_edge_costs_what_the_form_says(book: TariffBook) -> None:
    for low, high, plain, withdrawal_paid in BANDS:
        for shillings in (low, high):
            amount = Money.shillings(shillings)
            assert book.band("safaricom", "b2c", DAY, amount).fee == Money.shillings(plain), shillings
            assert book.band("safaricom", "b2c_withdrawal_paid", DAY, amount).fee == Money.shillings(withdrawal_paid), shillings


async def test_bands_above_what_the_form_states_are_marked(book: TariffBook) -> None:
    marks = {
        shillings: book.band("safaricom", "b2c", DAY, Money.shillings(shillings)).confirmed
        for shillings in (150_000, 150_001, 250_000)
    }
    assert marks == {150_000: True, 150_001: False, 250_000: False}


@pytest.mark.parametrize("shillings", [0, 250_001])
async def test_amounts_outside_the_form_have_no_price(book: TariffBook, shillings: int) -> None:
    with pytest.raises(ConfigurationError, match="no band"):
        book.band("safaricom", "b2c", DAY, Money.shillings(shillings))


async def test_days_before_the_form_have_no_price(book: TariffBook) -> None:
    assert book.band("safaricom", "b2c", date(2023, 8, 1), Money.shillings(100))
    with pytest.raises(ConfigurationError, match="2023-07-31"):
        book.band("safaricom", "b2c", date(2023, 7, 31), Money.shillings(100))


async def test_excise_is_fifteen_per_cent_since_july_2023(book: TariffBook) -> None:
    assert book.band("kra", "excise_fees", date(2023, 7, 1), Money(5_00)).rate_basis_points == 1_500
    with pytest.raises(ConfigurationError, match="2023-06-30"):
        book.band("kra", "excise_fees", date(2023, 6, 30), Money(5_00))


async def test_every_price_list_states_its_source(book: TariffBook) -> None:
    assert len(book.tariffs) == 7
    assert all(tariff.source for tariff in book.tariffs)
