"""What is left of a float, and in which turn it is given out."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.disbursements.balance_queries import next_question
from vault_core.disbursements.float_rules import (
    Float,
    FloatReport,
    covered,
    in_turn,
    is_credible,
    is_reflected,
    newest,
)
from vault_core.money import ZERO, Money
from vault_core.settings import FirstServed, Pace

START = datetime(2026, 11, 24, 9, tzinfo=UTC)


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


@dataclass(frozen=True)
class One:
    id: UUID
    payout: Money
    detected_at: datetime
    loan_id: int


def one(number: int, shillings: int, found: int = 0) -> One:
    return One(UUID(int=number), Money.shillings(shillings), second(found), number)


def report(at: int, shillings: int) -> FloatReport:
    return FloatReport(second(at), Money.shillings(shillings), second(at))


@dataclass(frozen=True)
class Paid:
    """A payout that M-Pesa did, in its order: at which second, and what it then told, if its result is not lost."""

    amount: int
    at: int
    told: int | None


@st.composite
def histories(draw) -> tuple[int, list[Paid]]:
    """What M-Pesa did, one after another: payouts of a float, several a second."""
    left = start = draw(st.integers(1_000, 100_000))
    paid, at = [], 0
    for amount, step, lost in draw(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 2), st.booleans()), max_size=12)):
        if amount > left:
            continue
        at += step
        left -= amount
        paid.append(Paid(amount, at, None if lost else left))
    return start, paid


def settle(start: int, heard: list[Paid], open_ones: list[Paid]) -> Float:
    reports = [FloatReport(second(-1), Money(start), second(0))]
    reports += [FloatReport(second(one.at), Money(one.told), second(0)) for one in heard if one.told is not None]
    last = newest(reports)
    assert last is not None
    late = [one for one in heard if not is_reflected(second(one.at), told_balance=one.told is not None, report=last)]
    total = sum((Money(one.amount) for one in late), ZERO)
    return Float(last, sum((Money(one.amount) for one in open_ones), ZERO), total, None)


@given(histories(), st.randoms(use_true_random=False))
def test_what_is_expected_never_exceeds_what_is_there_and_does_not_depend_on_the_order(history, chance: random.Random) -> None:
    start, paid = history
    really = Money(start - sum(one.amount for one in paid))
    heard = list(paid)
    chance.shuffle(heard)
    for number in range(len(heard) + 1):
        found = settle(start, heard[:number], heard[number:])
        assert found.expected is not None
        assert found.expected <= really
    assert settle(start, heard, []).expected == settle(start, paid, []).expected


@given(histories())
def test_once_every_result_was_heard_exactly_what_is_there_is_expected(history) -> None:
    start, paid = history
    told = [one for one in paid if one.told is not None]
    if told and told[-1] is paid[-1]:
        sure = [one for one in paid if one.told is not None or one.at < told[-1].at]
        if len(sure) == len(paid):
            assert settle(start, paid, []).expected == Money(start - sum(one.amount for one in paid))


def test_without_a_report_nothing_is_known() -> None:
    assert Float(None, Money(5), ZERO, None).expected is None


def test_of_one_second_the_lowest_report_counts() -> None:
    assert newest([report(5, 90), report(5, 70), report(5, 80), report(4, 10)]) == report(5, 70)
    assert newest([]) is None


def test_a_refusal_stops_until_a_report_that_came_after_it() -> None:
    told = [FloatReport(second(0), Money.shillings(100), second(received)) for received in (9, 10, 11)]
    assert [Float(one, ZERO, ZERO, second(10)).is_paused for one in told] == [True, True, False]
    assert Float(None, ZERO, ZERO, second(10)).is_paused
    assert not Float(told, ZERO, ZERO, None).is_paused


def test_a_report_from_far_ahead_of_our_clock_is_not_credible() -> None:
    assert is_credible(second(599), START)
    assert not is_credible(second(601), START)


@pytest.mark.parametrize(
    ("first", "order"),
    [(FirstServed.OLDEST, [2, 3, 1, 4]), (FirstServed.LARGEST, [3, 1, 4, 2]), (FirstServed.SMALLEST, [2, 1, 4, 3])],
)
def test_the_turn_is_by_age_or_amount_and_then_by_age(first: FirstServed, order: list[int]) -> None:
    waiting = [one(1, 50, found=3), one(2, 10, found=1), one(3, 90, found=2), one(4, 50, found=4)]
    assert [turn.loan_id for turn in in_turn(waiting, first)] == order


@given(st.lists(st.integers(1, 500), max_size=20), st.integers(-100, 3_000))
def test_never_more_than_the_room_is_given_out_and_what_is_left_fits_nothing_that_stayed(amounts, room: int) -> None:
    waiting = [one(number, amount) for number, amount in enumerate(amounts)]
    served, left = covered(waiting, Money.shillings(room))
    given_out = sum((turn.payout for turn in served), ZERO)
    assert left is not None
    assert given_out + left == Money.shillings(room)
    assert not served or left >= ZERO
    assert all(turn.payout > left for turn in waiting if turn not in served)


def test_without_a_known_room_all_go() -> None:
    assert covered([one(1, 5)], None) == ([one(1, 5)], None)


def test_questions_come_more_rarely_when_m_pesa_keeps_silent_and_once_an_hour_at_least() -> None:
    waits = [next_question(unanswered, Pace()).total_seconds() for unanswered in range(8)]
    assert waits == [300, 300, 300, 600, 1200, 2400, 3600, 3600]
    assert next_question(50, Pace(balance_query_every=7200)).total_seconds() == 7200
