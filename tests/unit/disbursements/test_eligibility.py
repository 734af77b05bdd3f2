from dataclasses import replace
from datetime import date

import pytest

from vault_core.disbursements.eligibility import (
    Held,
    HeldFor,
    LoanDays,
    LoanFacts,
    ProductRules,
    Ready,
    examine,
    within_daily_limit,
)
from vault_core.money import Money

LOAN = LoanFacts(Money.shillings(15_000), Money.shillings(14_550), "KES", group=False, phone="0712 345 678")
PRODUCT = ProductRules("Biashara", enabled=True, least=Money.shillings(500), most=Money.shillings(200_000), daily_limit=None)


def test_a_loan_inside_every_rule_is_ready_for_its_normalised_phone() -> None:
    assert examine(LOAN, PRODUCT) == Ready("254712345678")


@pytest.mark.parametrize(
    ("changes", "held_for"),
    [
        ({"group": True}, HeldFor.GROUP_LOAN),
        ({"plan": Held(HeldFor.TRANCHE_LOAN, "no tranche is planned: plan them")}, HeldFor.TRANCHE_LOAN),
        ({"currency": "USD"}, HeldFor.CURRENCY),
        ({"principal": Money.shillings(499)}, HeldFor.PRODUCT_LIMIT),
        ({"principal": Money.shillings(200_001)}, HeldFor.PRODUCT_LIMIT),
        ({"payout": Money(1_455_050)}, HeldFor.CENTS),
        ({"payout": Money.shillings(9)}, HeldFor.MPESA_LIMIT),
        ({"payout": Money.shillings(0)}, HeldFor.MPESA_LIMIT),
        ({"payout": Money.shillings(250_001)}, HeldFor.MPESA_LIMIT),
        ({"phone": None}, HeldFor.BAD_PHONE),
        ({"phone": "  "}, HeldFor.BAD_PHONE),
        ({"phone": "+255712345678"}, HeldFor.BAD_PHONE),
        ({"phone": "2.547E+11"}, HeldFor.BAD_PHONE),
    ],
)
def test_each_broken_rule_holds_with_a_reason_that_says_what_to_do(changes, held_for: HeldFor) -> None:
    decision = examine(replace(LOAN, **changes), PRODUCT)
    assert isinstance(decision, Held)
    assert decision.held_for is held_for
    assert ":" in decision.reason


@pytest.mark.parametrize("payout", [10, 250_000])
def test_the_bounds_of_mpesa_themselves_are_paid(payout: int) -> None:
    assert isinstance(examine(replace(LOAN, payout=Money.shillings(payout)), PRODUCT), Ready)


@pytest.mark.parametrize("principal", [500, 200_000])
def test_the_bounds_of_the_product_themselves_are_paid(principal: int) -> None:
    assert isinstance(examine(replace(LOAN, principal=Money.shillings(principal)), PRODUCT), Ready)


@pytest.mark.parametrize("product", [None, replace(PRODUCT, enabled=False)])
def test_a_product_that_is_not_enabled_pays_nothing(product) -> None:
    decision = examine(LOAN, product)
    assert isinstance(decision, Held)
    assert decision.held_for is HeldFor.PRODUCT_DISABLED


def test_no_phone_stands_in_a_reason() -> None:
    decision = examine(replace(LOAN, phone="+255712345678"), PRODUCT)
    assert isinstance(decision, Held)
    assert "712345678" not in decision.reason


def test_a_daily_limit_may_be_reached_but_not_passed() -> None:
    product = replace(PRODUCT, daily_limit=Money.shillings(30_000))
    assert within_daily_limit(product, Money.shillings(15_450), Money.shillings(14_550)) is None
    held = within_daily_limit(product, Money.shillings(15_451), Money.shillings(14_550))
    assert held is not None
    assert held.held_for is HeldFor.PRODUCT_LIMIT


def test_no_daily_limit_binds_nothing() -> None:
    assert within_daily_limit(PRODUCT, Money.shillings(10**9), Money.shillings(250_000)) is None


TODAY, BEFORE, AFTER = date(2026, 11, 24), date(2026, 11, 20), date(2026, 11, 28)
PUNCTUAL = replace(PRODUCT, expected_day_only=True)


@pytest.mark.parametrize(
    ("product", "days", "held_for"),
    [
        (PRODUCT, LoanDays(TODAY, BEFORE, AFTER, None), None),  # any day will do
        (PRODUCT, LoanDays(TODAY, BEFORE, BEFORE, TODAY), None),
        (PRODUCT, LoanDays(TODAY, BEFORE, TODAY, BEFORE), HeldFor.NOT_POSTABLE),  # first repayment before the disbursal
        (PUNCTUAL, LoanDays(TODAY, BEFORE, TODAY, None), None),
        (PUNCTUAL, LoanDays(TODAY, BEFORE, BEFORE, BEFORE), None),  # posted under its expected day
        (PUNCTUAL, LoanDays(TODAY, BEFORE, AFTER, None), HeldFor.NOT_DUE),
        (PUNCTUAL, LoanDays(TODAY, TODAY, BEFORE, None), HeldFor.NOT_POSTABLE),  # under its day it would be before its approval
        (PUNCTUAL, LoanDays(TODAY, BEFORE, BEFORE, None, top_up=True), HeldFor.NOT_POSTABLE),
        (PUNCTUAL, LoanDays(TODAY, BEFORE, TODAY, None, top_up=True), None),
    ],
)
def test_what_mifos_x_would_refuse_for_its_day_is_not_paid(product: ProductRules, days: LoanDays, held_for) -> None:
    decision = examine(replace(LOAN, days=days), product)
    assert (decision.held_for if isinstance(decision, Held) else None) is held_for


def test_a_client_who_is_not_active_in_mifos_x_is_not_paid() -> None:
    decision = examine(replace(LOAN, active_client=False), PRODUCT)
    assert isinstance(decision, Held)
    assert decision.held_for is HeldFor.NOT_POSTABLE
