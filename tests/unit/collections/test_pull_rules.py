from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.daraja_pull import PulledPayment
from vault_core.collections.pull_rules import LONGEST_WINDOW, Window, is_unhealthy, moments_of, plan_sweep
from vault_core.money import Money

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ages = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=5))


@given(ages, ages, st.none() | ages, st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=6)))
def test_windows_cover_without_a_hole_all_that_is_wanted_and_that_m_pesa_still_tells(begun, swept, wanted_again, again):
    begins_at, swept_to = NOW - max(begun, swept), NOW - swept
    again_from = None if wanted_again is None else NOW - wanted_again
    plan = plan_sweep(begins_at, swept_to, again_from, NOW, again)
    edges = [plan.start, *(one.end for one in plan.windows)]
    assert [one.start for one in plan.windows] == edges[:-1]
    assert edges[-1] == max(NOW, plan.start)
    assert all(timedelta(0) < one.end - one.start <= LONGEST_WINDOW for one in plan.windows)
    oldest = NOW - timedelta(hours=47, minutes=50)
    assert plan.start >= max(begins_at, oldest)
    assert plan.start <= max(min(swept_to - again, again_from or swept_to), begins_at, oldest)
    assert (plan.lost is not None) == (swept_to < oldest)


def test_a_sweep_reaches_back_into_the_one_before_but_not_to_before_the_beginning():
    assert plan_sweep(NOW - 9 * HOUR, NOW - HOUR, None, NOW, HOUR).windows == (Window(NOW - 2 * HOUR, NOW),)
    assert plan_sweep(NOW - HOUR, NOW - HOUR, NOW - 9 * HOUR, NOW, HOUR).windows == (Window(NOW - HOUR, NOW),)


def test_what_is_older_than_m_pesa_tells_is_lost_and_named():
    swept_to = NOW - timedelta(hours=72)
    plan = plan_sweep(swept_to, swept_to, None, NOW, HOUR)
    assert plan.lost == Window(swept_to, plan.start)


def pulled(receipt, *moments):
    return PulledPayment(receipt, Money(100), moments, "", None, None)


TEN, SEVEN = datetime(2026, 11, 24, 10, tzinfo=UTC), datetime(2026, 11, 24, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "meant"), [(Window(SEVEN - HOUR, SEVEN + HOUR), SEVEN), (Window(TEN - HOUR, TEN + HOUR), TEN)]
)
def test_of_two_readings_of_a_time_the_one_in_the_window_is_meant(window, meant):
    assert moments_of([pulled("A", SEVEN, TEN)], {}, window) == [meant]


def test_known_receipts_show_how_the_times_of_an_answer_are_meant():
    rows = [pulled("A", SEVEN, TEN), pulled("B", SEVEN + HOUR, TEN + HOUR), pulled("C", TEN)]
    window = Window(SEVEN - HOUR, SEVEN + HOUR)  # M-Pesa read the question as UTC
    assert moments_of(rows, {"A": TEN}, window) == [TEN, TEN + HOUR, TEN]


def test_a_time_that_fits_nowhere_is_read_as_east_africa_time():
    assert moments_of([pulled("A", SEVEN, TEN)], {}, Window(NOW, NOW + HOUR)) == [SEVEN]


@pytest.mark.parametrize(
    ("missed", "others", "unhealthy"),
    [(0, 0, False), (0, 9, False), (1, 99, False), (3, 97, True), (5, 10_000, True), (1, 0, True)],
)
def test_a_feed_is_unhealthy_when_many_or_a_large_part_is_missed(missed, others, unhealthy):
    assert is_unhealthy(missed, others, most=5, share=0.02) is unhealthy
