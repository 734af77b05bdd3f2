"""The rule of system fees: its laws, which fee goes before which, and terms that cannot be meant."""

import re
from datetime import date
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money
from vault_core.partners.partner_fields import read_percent
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.system_fees import FeeTerms, SystemFee, percent_text, system_fee

DAY = date(2026, 11, 24)
GOOD = (Path(__file__).parents[2] / "data" / "partners" / "umoja.toml").read_text(encoding="utf-8")
cents = st.integers(0, 10**9).map(Money)


@st.composite
def terms_of(draw) -> FeeTerms:
    least, most = draw(cents), draw(st.none() | cents)
    assume(most is None or not most < least)
    return FeeTerms("disbursement", flat=draw(cents), rate_basis_points=draw(st.integers(0, 10_000)), least=least, most=most)


def fee(terms: FeeTerms, since: date = date(2026, 1, 1), until: date | None = None) -> SystemFee:
    return SystemFee(uuid4(), UUID(int=1), terms, since, until, "ops:test")


def flat(shillings: int, **more) -> FeeTerms:
    return FeeTerms("disbursement", flat=Money.shillings(shillings), **more)


@given(terms=terms_of(), amount=cents)
def test_a_fee_is_never_below_its_least_nor_above_its_most(terms: FeeTerms, amount: Money) -> None:
    taken = terms.fee(amount)
    assert not taken < terms.least
    assert terms.most is None or not terms.most < taken


@given(terms=terms_of(), smaller=cents, more=cents)
def test_a_greater_amount_never_costs_less(terms: FeeTerms, smaller: Money, more: Money) -> None:
    assert not terms.fee(smaller + more) < terms.fee(smaller)


@given(amount=cents, rate=st.integers(0, 10_000), base=cents)
def test_the_rates_part_is_within_half_a_cent_of_the_exact_one(amount: Money, rate: int, base: Money) -> None:
    taken = FeeTerms("collection", flat=base, rate_basis_points=rate).fee(amount) - base
    too_much = 2 * (taken.cents * 10_000 - amount.cents * rate)
    assert -10_000 < too_much <= 10_000


@pytest.mark.parametrize(("amount", "taken"), [(0, 0), (99, 0), (100, 1), (299, 1), (300, 2), (10_000_00, 50_00)])
def test_half_a_percent_is_rounded_half_up_to_the_cent(amount: int, taken: int) -> None:
    assert FeeTerms("collection", rate_basis_points=50).fee(Money(amount)) == Money(taken)


def test_a_products_own_fee_goes_before_the_services() -> None:
    general, own = fee(flat(30)), fee(flat(10, product_id=3))
    for rules in ([general, own], [own, general]):
        assert system_fee(rules, Money(1), DAY, "disbursement", 3) == (Money(10_00), own)
        assert system_fee(rules, Money(1), DAY, "disbursement", 4) == (Money(30_00), general)
        assert system_fee(rules, Money(1), DAY, "disbursement") == (Money(30_00), general)


def test_the_fee_of_one_service_is_not_the_others() -> None:
    assert system_fee([fee(flat(30))], Money(1), DAY, "collection") == (ZERO, None)


def test_the_fee_of_the_day_decides_and_its_last_day_is_the_one_before_its_end() -> None:
    old, new = fee(flat(30), until=DAY), fee(flat(40), DAY)
    assert system_fee([old, new], Money(1), date(2026, 11, 23), "disbursement")[1] is old
    assert system_fee([old, new], Money(1), DAY, "disbursement")[1] is new
    assert system_fee([old], Money(1), DAY, "disbursement") == (ZERO, None)


def test_a_fee_that_was_taken_back_never_holds() -> None:
    assert system_fee([fee(flat(30), DAY, DAY)], Money(1), DAY, "disbursement") == (ZERO, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"service": "collection", "product_id": 3}, "before its loan product is known"),
        ({"service": "disbursement", "least": Money(2), "most": Money(1)}, "max KES 0.01 is below min KES 0.02"),
        ({"service": "disbursement", "rate_basis_points": 10_001}, "out of bounds"),
        ({"service": "disbursement", "flat": Money(-1)}, "never negative"),
    ],
)
def test_terms_that_cannot_be_meant_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        FeeTerms(**wrong)


@pytest.mark.parametrize(("text", "points"), [("0.5", 50), ("100", 10_000), (2, 200), ("1.25", 125), ("0.05", 5), ("0", 0)])
def test_a_percentage_is_read_exactly_and_written_back(text, points: int) -> None:
    assert read_percent(text) == points
    assert read_percent(percent_text(points)) == points


@pytest.mark.parametrize("text", [0.5, True, "0.555", "-1", "1e2", "100.01", "", "half", "\u0661"])
def test_what_is_no_percentage_is_refused(text) -> None:
    with pytest.raises(InvalidInput):
        read_percent(text)


def with_fees(tables: str) -> str:
    return GOOD.replace('system_fee = "50.00"', f"low_balance = 0\n{tables}")


def test_a_partner_file_may_list_fees_by_service_and_product() -> None:
    read = parse_partner_file(
        with_fees(
            """
            [[charges.system_fees]]
            service = "disbursement"
            flat = "30.00"
            [[charges.system_fees]]
            service = "disbursement"
            product = 3
            flat = 10
            percent = "0.25"
            [[charges.system_fees]]
            service = "collection"
            percent = "0.5"
            min = "5"
            max = "150.50"
            """
        )
    )
    assert read.charges.system_fees == (
        flat(30),
        FeeTerms("disbursement", 3, Money(10_00), 25),
        FeeTerms("collection", rate_basis_points=50, least=Money(5_00), most=Money(150_50)),
    )


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("[charges.system_fees]\nservice = 'collection'", "with two brackets"),
        ("[[charges.system_fees]]\nflat = 1", "number 1 service is missing"),
        ("[[charges.system_fees]]\nservice = 'loan'", "'loan' is none of the choices"),
        ("[[charges.system_fees]]\nservice = 'collection'\nproduct = 3", "number 1: a collection is charged before"),
        ("[[charges.system_fees]]\nservice = 'collection'\nmin = 3\nmax = 2", "max KES 2.00 is below min KES 3.00"),
        ("[[charges.system_fees]]\nservice = 'collection'\nbase = 3", "key base is not known"),
        ("[[charges.system_fees]]\nservice = 'collection'\npercent = 0.5", "percent: is a floating-point number"),
        (
            "[[charges.system_fees]]\nservice = 'collection'\n[[charges.system_fees]]\nservice = 'collection'",
            "number 2: a fee of the same service and product stands above",
        ),
    ],
)
def test_each_fault_of_a_listed_fee_is_named_with_its_place(tables: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        parse_partner_file(with_fees(tables))
