"""Fees read from the charges-paid balances of results: in any order, side by side, around top-ups and unknown payouts."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.daraja_messages import MpesaResult
from vault_core.disbursements.tariff_audit import SLACK, BalanceReading, fees_taken
from vault_core.money import Money

START = datetime(2026, 11, 24, 6, tzinfo=UTC)
FEES = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([0, 5_00, 9_00, 11_00])), min_size=1, max_size=40)


def readings(steps: list[tuple[float, int]], balance: int = 0) -> list[BalanceReading]:
    """Payouts in M-Pesa's own order: (seconds since the one before, fee)."""
    found, at = [], START
    for number, (seconds, fee) in enumerate(steps):
        at += timedelta(seconds=seconds)
        balance -= fee
        found.append(BalanceReading(UUID(int=number), at.replace(microsecond=0), Money(balance)))
    return found


def of(taken: dict[UUID, Money]) -> dict[int, int]:
    return {key.int: fee.cents for key, fee in taken.items()}


@given(steps=FEES, seed=st.integers())
def test_each_fee_but_the_first_is_found_in_whatever_order_results_come(steps: list[tuple[int, int]], seed: int) -> None:
    told = readings(steps)
    random.Random(seed).shuffle(told)
    found = of(fees_taken(told))
    assert sum(found.values()) == sum(fee for _, fee in steps[1:])
    assert {number: fee for number, fee in found.items() if fee} == {
        number: fee for number, (_, fee) in enumerate(steps) if fee and number
    } or any(fee == 0 for _, fee in steps)  # of payouts that left the balance alone, one cannot be told from the other


@given(steps=FEES, jitter=st.lists(st.integers(0, 9), min_size=40, max_size=40))
def test_stated_times_may_be_out_of_order_within_the_slack(steps: list[tuple[int, int]], jitter: list[int]) -> None:
    charged = [(seconds, fee or 5_00) for seconds, fee in steps]
    told = [
        BalanceReading(one.attempt_id, one.paid_at + timedelta(seconds=late), one.balance)
        for one, late in zip(readings(charged), jitter, strict=False)
    ]
    assert of(fees_taken(told)) == {number: fee for number, (_, fee) in enumerate(charged) if number}


def test_over_a_closed_interval_the_fall_is_the_sum_of_the_fees() -> None:
    told = readings([(0, 5_00), (1, 11_00), (0, 5_00), (2, 9_00)], balance=-1_000_00)
    taken = fees_taken(told)
    assert sum(fee.cents for fee in taken.values()) == told[0].balance.cents - told[-1].balance.cents


def test_nothing_is_read_across_a_payout_whose_balance_is_unknown() -> None:
    told = readings([(0, 5_00), (60, 5_00), (60, 5_00), (60, 5_00)])
    unknown = told.pop(1)
    assert of(fees_taken(told, [unknown.paid_at])) == {3: 5_00}
    assert of(fees_taken(told)) == {2: 10_00, 3: 5_00}, "the neighbour would look dear"


def test_a_top_up_between_two_payouts_is_no_fee_and_hides_none_after_it() -> None:
    before = readings([(0, 5_00), (60, 5_00)], balance=100_00)
    after = [
        BalanceReading(UUID(int=number), one.paid_at + timedelta(hours=1), one.balance)
        for number, one in enumerate(readings([(0, 5_00), (60, 9_00)], balance=5_000_00), 10)
    ]
    assert of(fees_taken([*after, *before])) == {1: 5_00, 11: 9_00}


def test_payouts_close_to_a_top_up_are_not_judged() -> None:
    before = readings([(0, 5_00), (60, 5_00), (60, 5_00)], balance=100_00)
    risen = BalanceReading(UUID(int=9), before[-1].paid_at + SLACK / 2, Money(5_000_00))
    assert of(fees_taken([*before, risen])) == {1: 5_00}


@pytest.mark.parametrize(
    ("said", "fee"),
    [
        ("Fee For B2C Payment|KES|22.40", Money(22_40)),
        ("Fee For B2C Payment|KES|5.00&Withdrawal|KES|29.00", Money(34_00)),
        ("Fee For B2C Payment|KES|0", Money(0)),
        ("", None),
        ("Fee For B2C Payment|USD|1", None),
        ("Fee For B2C Payment", None),
        ("Fee|KES|many", None),
    ],
)
def test_the_fee_of_a_status_answer_is_read_or_left(said: str, fee: Money | None) -> None:
    answer = MpesaResult(0, "0", "", None, None, None, {"DebitPartyCharges": said}, {})
    assert answer.debit_party_fee == fee
