"""The price lists a fresh installation starts with, against the figures of reference/daraja.md section 9."""

from datetime import date
from pathlib import Path

import pytest

from vault_core.errors import ConfigurationError
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.tariff_file import load_tariff_file
from vault_core.wallets.tariff_import import compare, import_tariff
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
# Up to and with, total, Mgao customer and business: reference/daraja.md section 9.
PAY_BILL = [
    (100, 0, 0, 0),
    (500, 5, 5, 0),
    (1_000, 10, 10, 0),
    (1_500, 15, 10, 5),
    (2_500, 20, 13, 7),
    (3_500, 25, 16, 9),
    (5_000, 34, 16, 18),
    (7_500, 42, 17, 25),
    (10_000, 48, 18, 30),
    (15_000, 57, 18, 39),
    (20_000, 62, 19, 43),
    (25_000, 67, 20, 47),
    (30_000, 72, 20, 52),
    (35_000, 83, 21, 62),
    (40_000, 99, 23, 76),
    (45_000, 103, 23, 80),
    (250_000, 108, 24, 84),
]
FILES = sorted((Path(__file__).parents[3] / "vault_core" / "wallets" / "price_lists").glob("*.toml"))


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
    for day in (date(2023, 7, 1), date(2025, 6, 30), date(2025, 7, 1), DAY):
        assert book.band("kra", "excise_fees", day, Money(5_00)).rate_basis_points == 1_500
    with pytest.raises(ConfigurationError, match="2023-06-30"):
        book.band("kra", "excise_fees", date(2023, 6, 30), Money(5_00))


async def test_excise_is_marked_from_the_day_on_that_no_source_states(book: TariffBook) -> None:
    marks = {day: book.band("kra", "excise_fees", day, Money(5_00)).confirmed for day in (date(2025, 6, 30), date(2025, 7, 1))}
    assert marks == {date(2025, 6, 30): True, date(2025, 7, 1): False}


@pytest.mark.parametrize("shillings", ["low", "high"])
async def test_a_pay_bills_fee_is_borne_as_its_bouquet_says(book: TariffBook, shillings: str) -> None:
    low = 0
    for high, total, customer, business in PAY_BILL:
        amount = Money.shillings(low if shillings == "low" else high)
        paid = {
            product: (band.fee, band.customer_fee)
            for product in ("c2b_business", "c2b_mgao", "c2b_customer")
            if (band := book.band("safaricom", product, DAY, amount))
        }
        assert paid == {
            "c2b_business": (Money(0), Money.shillings(total)),
            "c2b_mgao": (Money.shillings(business), Money.shillings(customer)),
            "c2b_customer": (Money.shillings(total), Money(0)),
        }, amount
        low = high + 1


async def test_a_customer_payment_with_cents_has_a_price(book: TariffBook) -> None:
    assert book.band("safaricom", "c2b_customer", DAY, Money(100_01)).fee == Money(5_00)
    with pytest.raises(ConfigurationError, match="no band"):
        book.band("safaricom", "c2b_customer", DAY, Money(250_000_01))


async def test_every_list_is_shipped_as_a_file_with_the_same_content(book: TariffBook) -> None:
    files = {file.name: load_tariff_file(file) for file in FILES}
    assert len(files) == len(book.tariffs)
    for name, new in files.items():
        standing, found = compare(book, new)
        assert (standing is not None, found) == (True, []), name
        assert name == f"{new.provider}_{new.product}_{new.valid_from}.toml"


async def test_importing_what_is_shipped_changes_nothing(runtime: Runtime) -> None:
    for file in FILES:
        assert (await import_tariff(runtime, load_tariff_file(file), "ops:test")).repeated


async def test_fees_of_m_pesa_carry_their_excise(book: TariffBook) -> None:
    terms = {(t.excise_rate_basis_points, t.excise_included) for t in book.tariffs if t.provider == "safaricom"}
    assert terms == {(1_500, True)}


async def test_what_is_unconfirmed_says_why(book: TariffBook) -> None:
    unconfirmed = [(t.product, band) for t in book.tariffs for band in t.bands if not band.confirmed]
    assert sorted(product for product, _ in unconfirmed) == ["b2c", "b2c_withdrawal_paid", "excise_fees"]
    assert all(band.note for _, band in unconfirmed)


async def test_every_price_list_states_its_source(book: TariffBook) -> None:
    assert len(book.tariffs) == 7
    assert all(tariff.source for tariff in book.tariffs)
