from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.money import ZERO, Money
from vault_core.wallets.alerts import WatchedWallet, is_low, is_over, line_of_end, turn_of_alert

CENTS = st.integers(min_value=-(10**6), max_value=10**6)


def look(available: int, threshold: int = 100, *, told: bool = False) -> str | None:
    return turn_of_alert(WatchedWallet(UUID(int=1), Money(available), Money(threshold), told))


@pytest.mark.parametrize(("available", "low"), [(99, True), (100, False), (101, False), (-5, True)])
def test_a_wallet_is_low_under_its_threshold(*, available: int, low: bool) -> None:
    assert is_low(Money(available), Money(100)) is low


def test_no_threshold_means_no_alert() -> None:
    assert not is_low(Money(-5), ZERO)


@pytest.mark.parametrize(("available", "over"), [(99, False), (100, False), (119, False), (120, True)])
def test_a_shortage_is_over_only_with_room_to_spare(*, available: int, over: bool) -> None:
    assert is_over(Money(available), Money(100)) is over


@given(line=st.integers(min_value=0, max_value=10**9))
def test_the_line_of_the_end_is_the_least_amount_that_is_a_fifth_above(line: int) -> None:
    end = line_of_end(Money(line)).cents
    assert end * 100 >= line * 120 > (end - 1) * 100 or end == line == 0


@pytest.mark.parametrize(
    ("available", "told", "turn"),
    [(99, False, "raise"), (99, True, None), (100, False, None), (119, True, None), (120, True, "end"), (120, False, None)],
)
def test_a_look_begins_and_ends_an_alert_once(*, available: int, told: bool, turn: str | None) -> None:
    assert look(available, told=told) == turn


def test_an_alert_ends_when_the_partner_wants_none_any_more() -> None:
    assert look(-5, threshold=0, told=True) == "end"
    assert look(-5, threshold=0, told=False) is None


@given(threshold=st.integers(min_value=1, max_value=10**6), balances=st.lists(CENTS, max_size=60))
def test_for_any_balances_alerts_begin_and_end_in_turn_and_once_a_crossing(threshold: int, balances: list[int]) -> None:
    told = False
    turns: list[tuple[str, int]] = []
    for available in balances:
        turn = look(available, threshold, told=told)
        if turn is not None:
            turns.append((turn, available))
            told = turn == "raise"
        # What stands after a look is what the balance says, outside the band in which it stands as it was.
        if available < threshold:
            assert told
        if available * 100 >= threshold * 120:
            assert not told
    assert [turn for turn, _ in turns] == [("raise", "end")[number % 2] for number in range(len(turns))]
    assert all(available < threshold if turn == "raise" else available * 100 >= threshold * 120 for turn, available in turns)
