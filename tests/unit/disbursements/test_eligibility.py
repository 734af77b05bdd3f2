from dataclasses import replace

import pytest

from vault_core.disbursements.eligibility import Held, HeldFor, LoanFacts, ProductRules, Ready, examine, within_daily_limit
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
