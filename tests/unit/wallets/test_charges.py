from dataclasses import dataclass
from datetime import date
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.errors import ConfigurationError
from vault_core.money import ZERO, Money
from vault_core.partners.system_fees import FeeTerms, SystemFee
from vault_core.wallets.charges import (
    ByBand,
    ByRule,
    ChargeQuote,
    charge_legs,
    excise_on,
    quote_collection,
    quote_disbursement,
)
from vault_core.wallets.tariffs import Tariff, TariffBand, TariffBook

DAY = date(2026, 11, 24)
PARTNER = UUID(int=1)


def band(
    number: int, low: int, high: int, *, fee: int = 0, rate: int = 0, confirmed: bool = True, customer: int = 0
) -> TariffBand:
    return TariffBand(number, Money(low), Money(high), Money(fee), rate, confirmed, Money(customer))


def pay_bill(bouquet: str, number: int, fee: int, customer: int) -> Tariff:
    bands = (band(number, 0, 250_000_00, fee=fee, customer=customer),)
    return Tariff("safaricom", f"c2b_{bouquet}", date(2023, 8, 1), None, "pay bill", bands, 1_500, excise_included=True)


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
            1_500,
            excise_included=True,
        ),
        Tariff("safaricom", "b2c_withdrawal_paid", date(2023, 8, 1), None, "new", (band(6, 100, 1_500_00, fee=34_00),)),
        pay_bill("business", 7, 0, 15_00),
        pay_bill("mgao", 8, 5_00, 10_00),
        pay_bill("customer", 9, 15_00, 0),
        Tariff("kra", "excise_fees", date(2018, 7, 1), date(2023, 7, 1), "12 %", (band(4, 0, 10**15, rate=1_200),)),
        Tariff("kra", "excise_fees", date(2023, 7, 1), None, "15 %", (band(5, 0, 10**15, rate=1_500),)),
    ]
)


@dataclass(frozen=True)
class Terms:
    """What of a partner a quote reads."""

    mpesa_fee_paid_by: str = "wallet"
    b2c_tariff: str = "b2c"
    c2b_bouquet: str = "business"
    c2b_fee_paid_by: str = "short_code"


def fee(cents: int, service: str = "disbursement", *, since: date = date(2022, 1, 1), **terms) -> SystemFee:
    return SystemFee(uuid4(), PARTNER, FeeTerms(service, flat=Money(cents), **terms), since, None, "ops:test")


TEXTS = fee(80, "sms")


def quoted(payout: int, day: date = DAY, *, system_fee: int = 30_00, parts: int = 2, **terms) -> ChargeQuote:
    return quote_disbursement(
        BOOK, Terms(**terms), [fee(system_fee), TEXTS], Money(payout), day, product_id=None, sms_parts=parts
    )


def amounts(payout: int, day: date = DAY, **terms) -> dict[str, int]:
    return {line.line: line.amount.cents for line in quoted(payout, day, **terms).lines}


def collected(amount: int, *fees: SystemFee, **terms) -> ChargeQuote:
    return quote_collection(BOOK, Terms(**terms), fees, Money(amount), DAY)


def test_a_quote_has_a_line_for_each_thing_that_is_charged() -> None:
    assert amounts(1_000_00) == {"mpesa_fee": 5_00, "system_fee": 30_00, "excise": 4_50, "sms": 1_60}


def test_what_is_held_is_everything_and_what_is_captured_leaves_the_messages_out() -> None:
    asked = quoted(1_000_00)
    assert (asked.total, asked.charged) == (Money(41_10), Money(39_50))


def test_each_line_names_the_band_or_the_fee_it_came_from() -> None:
    own = fee(30_00)
    asked = quote_disbursement(BOOK, Terms(), [own, TEXTS], Money(2_000_00), DAY, product_id=7, sms_parts=1)
    named = [(line.tariff_band_id, line.system_fee_id) for line in asked.lines]
    assert named == [(3, None), (None, own.id), (5, None), (None, TEXTS.id)]
    assert not asked.confirmed


def test_what_the_short_code_pays_itself_is_shown_and_not_charged_to_the_wallet() -> None:
    asked = quoted(1_000_00, mpesa_fee_paid_by="short_code")
    assert (asked.lines[0].amount, asked.lines[0].tariff_band_id) == (ZERO, 2)
    assert asked.paid_by("short_code") == Money(5_00)
    assert asked.total == Money(36_10)


def test_mpesas_fee_carries_its_excise_inside_and_is_not_taxed_again() -> None:
    assert amounts(1_000_00, system_fee=0)["excise"] == 0
    source = quoted(1_000_00).dues[0].source
    assert isinstance(source, ByBand)
    assert source.excise_inside == Money(65)


@pytest.mark.parametrize(
    ("priced", "included", "rounding", "paid", "excise"),
    [
        ({"fee": 5_00}, False, "half_up_cent", 5_75, 75),
        ({"fee": 5_00}, False, "up_shilling", 6_00, 1_00),
        ({"rate": 50}, True, "half_up_cent", 5_03, 66),  # half a per cent of 1,005.00
        ({"rate": 50}, False, "half_up_cent", 5_78, 75),
    ],
    ids=["excise on top", "on top, in shillings", "by rate", "by rate, excise on top"],
)
def test_a_list_with_excise_on_top_or_a_rate_is_charged_as_it_says(priced, included, rounding, paid, excise) -> None:
    bands = (band(70, 100, 150_000_00, **priced),)
    its = Tariff("safaricom", "b2c", date(2026, 1, 1), None, "new", bands, 1_500, excise_included=included, rounding=rounding)
    quoted = quote_disbursement(TariffBook([*BOOK.tariffs, its]), Terms(), (), Money(1_005_00), DAY, product_id=None, sms_parts=0)
    due = quoted.dues[0]
    assert isinstance(due.source, ByBand)
    assert (due.amount, due.source.excise_inside, quoted.charged) == (Money(paid), Money(excise), Money(paid))


def test_excise_on_our_fee_is_rounded_as_its_list_says() -> None:
    rate = Tariff("kra", "excise_fees", date(2026, 1, 1), None, "x", (band(71, 0, 10**15, rate=1_500),), rounding="up_shilling")
    fees = (fee(10_00),)
    quoted = quote_disbursement(
        TariffBook([*BOOK.tariffs, rate]), Terms(), fees, Money(1_000_00), DAY, product_id=None, sms_parts=0
    )
    assert [due.amount for due in quoted.dues if due.line == "excise"] == [Money(2_00)]


def test_a_payout_with_the_withdrawal_paid_is_priced_by_that_list() -> None:
    assert amounts(1_000_00, b2c_tariff="b2c_withdrawal_paid")["mpesa_fee"] == 34_00


def test_a_partner_without_a_system_fee_pays_none_and_the_line_says_so() -> None:
    asked = quote_disbursement(BOOK, Terms(), [], Money(1_000_00), DAY, product_id=None, sms_parts=0)
    assert [line.amount.cents for line in asked.lines] == [5_00, 0, 0, 0]
    assert asked.dues[1].source == ByRule(None)


@pytest.mark.parametrize(
    ("bouquet", "payer", "wallet", "short_code", "customer"),
    [
        ("business", "short_code", 0, 0, 15_00),
        ("business", "wallet", 0, 0, 15_00),
        ("mgao", "short_code", 0, 5_00, 10_00),
        ("mgao", "wallet", 5_00, 0, 10_00),
        ("customer", "short_code", 0, 15_00, 0),
        ("customer", "wallet", 15_00, 0, 0),
    ],
)
def test_who_pays_mpesas_fee_of_a_collection_is_the_partners_setting(bouquet, payer, wallet, short_code, customer) -> None:
    asked = collected(1_200_00, c2b_bouquet=bouquet, c2b_fee_paid_by=payer)
    assert [asked.paid_by(who).cents for who in ("wallet", "short_code", "customer")] == [wallet, short_code, customer]


def test_a_collection_has_one_line_a_name_even_where_the_customer_pays_a_part() -> None:
    asked = collected(1_200_00, fee(20_00, "collection"), c2b_bouquet="mgao", c2b_fee_paid_by="wallet")
    lines = [(line.line, line.amount.cents) for line in asked.lines]
    assert lines == [("mpesa_fee", 5_00), ("system_fee", 20_00), ("excise", 3_00)]


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
    asked = quoted(1_000_00, system_fee=0, parts=0)
    assert [(leg.account.code, leg.amount_cents) for leg in charge_legs(partner_id, asked.lines)] == [
        ("wallet", 5_00),
        ("fees:mpesa", -5_00),
    ]


def test_a_charge_of_nothing_has_no_legs(partner_id) -> None:
    free = quoted(1_000_00, system_fee=0, parts=0, mpesa_fee_paid_by="short_code")
    assert charge_legs(partner_id, free.lines) == ()


@given(
    payout=st.integers(1, 1_500).map(lambda shillings: shillings * 100),
    flat=st.integers(0, 10**6),
    rate=st.integers(0, 10_000),
    payer=st.sampled_from(["wallet", "short_code"]),
    parts=st.integers(0, 5),
)
def test_lines_sum_to_the_total_and_legs_to_zero(payout: int, flat: int, rate: int, payer: str, parts: int) -> None:
    rule = fee(flat, rate_basis_points=rate)
    terms = Terms(mpesa_fee_paid_by=payer)
    asked = quote_disbursement(BOOK, terms, [rule, TEXTS], Money(payout), DAY, product_id=None, sms_parts=parts)
    assert sum(line.amount.cents for line in asked.lines) == asked.total.cents
    assert asked.total == asked.charged + Money(80 * parts)
    legs = charge_legs(PARTNER, asked.lines)
    assert sum(leg.amount_cents for leg in legs) == 0
    assert [-leg.amount_cents for leg in legs[1:]] == [line.amount.cents for line in asked.lines if line.amount]
