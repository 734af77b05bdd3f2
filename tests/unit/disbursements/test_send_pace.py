from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vault_core.disbursements.send_pace import WIDEST, Gap, eased, least_gap, widened
from vault_core.settings import Pace

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LEAST = timedelta(milliseconds=20)
lengths = st.integers(20_000, 5_000_000).map(lambda us: timedelta(microseconds=us))
waits = st.integers(0, 3_600_000).map(lambda ms: timedelta(milliseconds=ms))


def test_fifty_a_second_are_twenty_milliseconds_apart() -> None:
    assert least_gap(Pace(b2c_per_second=50.0)) == LEAST


def test_the_first_sign_doubles_the_gap_at_once() -> None:
    assert widened(Gap(LEAST, NOW), NOW, first=LEAST) == Gap(2 * LEAST, NOW)


def test_the_answers_of_one_spike_slow_down_once() -> None:
    once = widened(Gap(LEAST, NOW), NOW, first=LEAST)
    assert widened(once, NOW + timedelta(milliseconds=900), first=LEAST) == once
    assert widened(once, NOW + timedelta(seconds=1), first=LEAST).length == 4 * LEAST


def test_nothing_eases_within_ten_seconds_of_a_change() -> None:
    gap = Gap(8 * LEAST, NOW)
    assert eased(gap, NOW + timedelta(seconds=9), least=LEAST) == gap
    assert eased(gap, NOW + timedelta(seconds=10), least=LEAST).length == 8 * LEAST * 4 // 5


@given(lengths, waits)
def test_a_gap_never_leaves_its_bounds_and_easing_never_widens(length: timedelta, waited: timedelta) -> None:
    gap = Gap(length, NOW)
    later = NOW + waited
    assert LEAST <= eased(gap, later, least=LEAST).length <= max(length, LEAST)
    assert length <= widened(gap, later, first=LEAST).length <= max(WIDEST, length)


@given(lengths, waits, waits)
def test_easing_in_two_looks_is_easing_in_one(length: timedelta, first: timedelta, second: timedelta) -> None:
    gap = Gap(length, NOW)
    at_once = eased(gap, NOW + first + second, least=LEAST)
    in_two = eased(eased(gap, NOW + first, least=LEAST), NOW + first + second, least=LEAST)
    assert abs(at_once.length - in_two.length) <= timedelta(microseconds=100)


@given(lengths)
def test_an_hour_without_a_sign_brings_the_full_pace_back(length: timedelta) -> None:
    assert eased(Gap(length, NOW), NOW + timedelta(hours=1), least=LEAST).length == LEAST
