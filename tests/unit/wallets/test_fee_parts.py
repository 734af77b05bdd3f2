import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.money import Money
from vault_core.wallets.fee_parts import ROUNDINGS, fee_parts, rounded


@pytest.mark.parametrize(
    ("fee", "net", "excise"),
    [(0, 0, 0), (5_00, 4_35, 65), (9_00, 7_83, 1_17), (11_00, 9_57, 1_43), (13_00, 11_30, 1_70), (108_00, 93_91, 14_09)],
)
def test_a_fee_that_carries_fifteen_per_cent_inside_is_split(fee: int, net: int, excise: int) -> None:
    parts = fee_parts(Money(fee), 1_500, included=True, rounding="half_up_cent")
    assert (parts.net, parts.excise, parts.paid) == (Money(net), Money(excise), Money(fee))


def test_a_fee_that_does_not_carry_its_excise_gets_it_on_top() -> None:
    parts = fee_parts(Money(25_50), 1_500, included=False, rounding="half_up_cent")
    assert (parts.net, parts.excise, parts.paid) == (Money(25_50), Money(3_83), Money(29_33))


@pytest.mark.parametrize(
    ("cents", "to_the_cent", "to_the_shilling", "up"),
    [(0, 0, 0, 0), (1, 1, 0, 1_00), (49, 49, 0, 1_00), (50, 50, 1_00, 1_00), (1_00, 1_00, 1_00, 1_00), (1_01, 1_01, 1_00, 2_00)],
)
def test_each_rounding_rounds_as_it_is_called(cents: int, to_the_cent: int, to_the_shilling: int, up: int) -> None:
    assert rounded(cents, 1, "half_up_cent") == Money(to_the_cent)
    assert rounded(cents, 1, "half_up_shilling") == Money(to_the_shilling)
    assert rounded(cents, 1, "up_shilling") == Money(up)


def test_half_a_cent_is_rounded_up_and_less_is_not() -> None:
    assert rounded(1, 2, "half_up_cent") == Money(1)
    assert rounded(49, 100, "half_up_cent") == Money(0)


@given(
    shillings=st.integers(0, 10_000),
    rate=st.integers(0, 10_000),
    included=st.booleans(),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_no_part_is_negative_and_what_an_inclusive_fee_pays_is_the_fee(shillings, rate, included, rounding) -> None:
    fee = Money.shillings(shillings)
    parts = fee_parts(fee, rate, included=included, rounding=rounding)
    assert parts.net >= Money(0)
    assert parts.excise >= Money(0)
    assert parts.paid == fee if included else parts.net == fee


@given(cents=st.integers(0, 10**9), rate=st.integers(0, 10_000))
def test_excise_to_the_cent_is_off_by_half_a_cent_at_most(cents: int, rate: int) -> None:
    excise = fee_parts(Money(cents), rate, included=False, rounding="half_up_cent").excise.cents
    assert abs(2 * (excise * 10_000 - cents * rate)) <= 10_000
