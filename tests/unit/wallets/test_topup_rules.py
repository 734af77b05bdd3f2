import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.money import ZERO, Money
from vault_core.wallets.alerts import is_over
from vault_core.wallets.low_balance import BURN_DAYS, COVERED_DAYS, NO_BURN, Burn, days_left, recommended_topup, round_up

CENTS = st.integers(min_value=0, max_value=10**10)
BURNS = st.builds(Burn, st.builds(Money, st.integers(-(10**8), 10**10)), st.integers(1, BURN_DAYS))


def shillings(whole: int) -> Money:
    return Money.shillings(whole)


@pytest.mark.parametrize(("spent", "days", "daily"), [(700, 7, 100), (701, 7, 101), (700, 2, 350), (0, 7, 0), (-5, 7, 0)])
def test_a_day_is_the_average_rounded_up_and_never_negative(spent: int, days: int, daily: int) -> None:
    assert Burn(Money(spent), days).daily == Money(daily)


@pytest.mark.parametrize(("available", "left"), [(1000, 10), (1099, 10), (99, 0), (0, 0), (-500, 0)])
def test_a_wallet_lasts_whole_days(available: int, left: int) -> None:
    assert days_left(Money(available), Burn(Money(700), 7)) == left


def test_a_wallet_that_spends_nothing_has_no_end() -> None:
    assert days_left(Money(1000), NO_BURN) is None


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        (0, 0),
        (1, 500),
        (500, 500),
        (501, 1_000),
        (9_999, 10_000),
        (10_001, 11_000),
        (100_000, 100_000),
        (100_001, 110_000),
        (1_234_567, 1_240_000),
    ],
)
def test_a_recommended_amount_is_round(amount: int, rounded: int) -> None:
    assert round_up(shillings(amount)) == shillings(rounded)


def test_a_cent_more_than_round_is_the_next_round_amount() -> None:
    assert round_up(Money(500_01)) == shillings(1_000)


def test_two_weeks_at_the_present_rate_are_recommended() -> None:
    burn = Burn(shillings(7_000), 7)
    assert recommended_topup(shillings(1_000), burn, shillings(2_000)) == shillings(13_000)


def test_a_young_wallet_is_judged_by_its_own_days() -> None:
    assert recommended_topup(ZERO, Burn(shillings(2_000), 2), ZERO) == shillings(14_000)


def test_a_wallet_that_spends_little_is_filled_to_the_end_of_its_alert() -> None:
    assert recommended_topup(shillings(4_000), NO_BURN, shillings(5_000)) == shillings(2_000)


def test_what_payouts_wait_for_comes_on_top() -> None:
    burn = Burn(shillings(7_000), 7)
    assert recommended_topup(ZERO, burn, ZERO, waiting=shillings(3_000)) == shillings(17_000)


def test_a_wallet_that_is_full_needs_nothing() -> None:
    assert recommended_topup(shillings(14_000), Burn(shillings(7_000), 7), shillings(5_000)) == ZERO
    assert recommended_topup(ZERO, NO_BURN, ZERO) == ZERO


@given(available=st.integers(-(10**9), 10**10), burn=BURNS, threshold=CENTS, waiting=CENTS)
def test_whoever_pays_in_what_is_recommended_ends_the_alert_and_is_covered(
    available: int, burn: Burn, threshold: int, waiting: int
) -> None:
    now, line, needed = Money(available), Money(threshold), Money(waiting)
    after = now + recommended_topup(now, burn, line, needed) - needed
    assert is_over(after, line)
    assert after >= burn.daily * COVERED_DAYS
    lasts = days_left(after, burn)
    assert lasts is None or lasts >= COVERED_DAYS


@given(amount=CENTS, more=CENTS)
def test_rounding_never_recommends_less_for_more(amount: int, more: int) -> None:
    assert Money(amount) <= round_up(Money(amount)) <= round_up(Money(amount + more))
