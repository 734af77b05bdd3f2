from datetime import date

import pytest

from vault_core.errors import ConfigurationError
from vault_core.money import ZERO, Money
from vault_core.wallets.charges import charge_legs, excise_on, quote
from vault_core.wallets.tariffs import Tariff, TariffBand, TariffBook

DAY = date(2026, 11, 24)


def band(number: int, low: int, high: int, *, fee: int = 0, rate: int = 0, confirmed: bool = True) -> TariffBand:
    return TariffBand(number, Money(low), Money(high), Money(fee), rate, confirmed)


BOOK = TariffBook(
    [
        Tariff("safaricom", "b2c", date(2023, 1, 1), date(2023, 8, 1), "old", (band(1, 100, 150_000_00, fee=12_00),)),
        Tariff(
            "safaricom",
            "b2c",
            date(2023, 8, 1),
            None,
            "new",
            (band(2, 100, 1_500_00, fee=5_00), band(3, 1_501_00, 2_500_00, fee=9_00, confirmed=False)),
        ),
        Tariff("kra", "excise_fees", date(2018, 7, 1), date(2023, 7, 1), "12 %", (band(4, 0, 10**15, rate=1_200),)),
        Tariff("kra", "excise_fees", date(2023, 7, 1), None, "15 %", (band(5, 0, 10**15, rate=1_500),)),
    ]
)


def amounts(payout: int, day: date = DAY, **terms) -> dict[str, int]:
    chosen = {"system_fee": Money(30_00), "mpesa_fee_paid_by": "wallet", "sms_reserve": Money(1_60)} | terms
    return {line.line: line.amount.cents for line in quote(BOOK, Money(payout), day, **chosen).lines}


def test_a_quote_has_a_line_for_each_thing_that_is_charged() -> None:
    assert amounts(1_000_00) == {"mpesa_fee": 5_00, "system_fee": 30_00, "excise": 4_50, "sms": 1_60}


def test_what_is_held_is_everything_and_what_is_captured_leaves_the_messages_out() -> None:
    asked = quote(BOOK, Money(1_000_00), DAY, system_fee=Money(30_00), mpesa_fee_paid_by="wallet", sms_reserve=Money(1_60))
    assert (asked.total, asked.charged) == (Money(41_10), Money(39_50))


def test_each_line_names_the_band_it_came_from() -> None:
    asked = quote(BOOK, Money(2_000_00), DAY, system_fee=Money(30_00), mpesa_fee_paid_by="wallet", sms_reserve=ZERO)
    assert [line.tariff_band_id for line in asked.lines] == [3, None, 5, None]
    assert not asked.confirmed


def test_what_the_short_code_pays_itself_is_not_charged_to_the_wallet() -> None:
    assert amounts(1_000_00, mpesa_fee_paid_by="short_code")["mpesa_fee"] == 0


def test_mpesas_fee_carries_its_excise_inside_and_is_not_taxed_again() -> None:
    assert amounts(1_000_00, system_fee=ZERO)["excise"] == 0


@pytest.mark.parametrize(
    ("day", "mpesa_fee", "excise"),
    [
        (date(2023, 6, 30), 12_00, 3_60),
        (date(2023, 7, 1), 12_00, 4_50),
        (date(2023, 7, 31), 12_00, 4_50),
        (date(2023, 8, 1), 5_00, 4_50),
    ],
)
def test_the_price_list_of_the_day_decides(day: date, mpesa_fee: int, excise: int) -> None:
    lines = amounts(1_000_00, day)
    assert (lines["mpesa_fee"], lines["excise"]) == (mpesa_fee, excise)


@pytest.mark.parametrize(
    ("fee", "excise"), [(0, 0), (1, 0), (3, 0), (4, 1), (10, 2), (30, 5), (33, 5), (36, 5), (37, 6), (100, 15), (25_50, 3_83)]
)
def test_excise_is_rounded_half_up_to_the_cent(fee: int, excise: int) -> None:
    assert excise_on(Money(fee), 1_500) == Money(excise)


@pytest.mark.parametrize("payout", [0, 99, 1_500_50, 2_500_01])
def test_an_amount_no_band_covers_is_an_error_that_names_it(payout: int) -> None:
    with pytest.raises(ConfigurationError, match=r"the safaricom b2c tariff of 2023-08-01 has no band for KES"):
        amounts(payout)


def test_a_day_no_price_list_covers_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigurationError, match="no safaricom b2c tariff holds on 2022-12-31"):
        amounts(1_000_00, date(2022, 12, 31))


def test_the_legs_of_a_charge_sum_to_zero_and_leave_lines_of_nothing_out(partner_id) -> None:
    asked = quote(BOOK, Money(1_000_00), DAY, system_fee=ZERO, mpesa_fee_paid_by="wallet", sms_reserve=ZERO)
    assert [(leg.account.code, leg.amount_cents) for leg in charge_legs(partner_id, asked.lines)] == [
        ("wallet", 5_00),
        ("fees:mpesa", -5_00),
    ]


def test_a_charge_of_nothing_has_no_legs(partner_id) -> None:
    free = quote(BOOK, Money(1_000_00), DAY, system_fee=ZERO, mpesa_fee_paid_by="short_code", sms_reserve=ZERO)
    assert charge_legs(partner_id, free.lines) == ()
