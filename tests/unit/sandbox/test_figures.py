"""The sandbox's own arithmetic: schedules as the real server made them, SMS parts, B2C fees, amounts on the wire."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.airtouch.segments import part_count
from sandbox.chance import fraction, letters
from sandbox.daraja.books import MpesaBooks
from sandbox.daraja.fees import b2c_fee, c2b_fee
from sandbox.daraja.wire import amount_number
from sandbox.mifos.amounts import cents_of, number
from sandbox.mifos.schedule import schedule, spread

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "sms" / "segmentation_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_parts_are_counted_as_the_vectors_say(vector):
    assert part_count(vector["text"]) == vector["segments"]


@pytest.mark.parametrize(
    ("shillings", "fee"),
    [(1, 0), (100, 0), (101, 5), (1500, 5), (1501, 9), (5000, 9), (5001, 11), (20_000, 11), (20_001, 13), (250_000, 13)],
)
def test_the_fee_follows_the_form_of_august_2023(shillings, fee):
    assert b2c_fee(shillings * 100).business_cents == fee * 100


@pytest.mark.parametrize(
    ("shillings", "total", "mgao"), [(100, 0, 0), (500, 5, 5), (1_200, 15, 10), (2_501, 25, 16), (50_000, 108, 24)]
)
def test_the_pay_bills_fee_is_split_as_its_bouquet_says(shillings, total, mgao):
    split = {
        bouquet: ((fee := c2b_fee(shillings * 100, bouquet)).business_cents // 100, fee.customer_cents // 100)
        for bouquet in ("business", "mgao", "customer")
    }
    assert split == {"business": (0, total), "mgao": (total - mgao, mgao), "customer": (total, 0)}


def test_a_schedule_is_the_one_the_real_server_made():
    rows = schedule(15_000_00, 3, 250, date(2026, 11, 23))
    assert [(row.due_day, row.principal_cents, row.interest_cents) for row in rows] == [
        (date(2026, 12, 23), 4877_06, 375_00),
        (date(2027, 1, 23), 4998_99, 253_07),
        (date(2027, 2, 23), 5123_95, 128_10),
    ]


@given(st.integers(100, 10**9), st.integers(1, 36), st.integers(0, 1000), st.lists(st.integers(1, 10**8), max_size=8))
def test_no_cent_of_a_loan_or_a_payment_is_lost(principal, months, rate, payments):
    rows = schedule(principal, months, rate, date(2026, 1, 31))
    by_payment, by_row = spread(rows, payments)
    assert sum(row.principal_cents for row in rows) == principal
    assert [each.principal_cents + each.interest_cents + each.over_cents for each in by_payment] == payments
    assert sum(each.principal_cents for each in by_payment) == sum(each.principal_cents for each in by_row)
    assert all(0 <= paid.principal_cents <= row.principal_cents for row, paid in zip(rows, by_row, strict=True))


@pytest.mark.parametrize(
    ("cents", "text"), [(0, b"0.000000"), (1, b"0.010000"), (14_550_00, b"14550.000000"), (-5_50, b"-5.500000")]
)
def test_an_amount_of_mifos_has_six_decimals(cents, text):
    assert orjson.dumps(number(cents)) == text


@pytest.mark.parametrize(
    ("cents", "text"), [(0, "0.0"), (5_225_00, "5225.0"), (8_959_269_60, "8959269.6"), (-1_980_00, "-1980.0"), (55, "0.55")]
)
def test_a_balance_of_mpesa_is_written_as_in_its_results(cents, text):
    assert orjson.dumps(amount_number(cents)).decode() == text


def test_a_half_cent_is_rounded_to_even():
    assert [cents_of(Decimal(text)) for text in ("1.005", "1.015", "12.50")] == [100, 102, 1250]


def test_draws_do_not_depend_on_each_other():
    assert fraction(1, "a", "b") == fraction(1, "a", "b") != fraction(1, "ab")
    assert letters(1, 10, "x") == letters(1, 10, "x") != letters(2, 10, "x")


def test_a_receipt_belongs_to_its_act_and_is_never_given_twice():
    at = datetime(2024, 7, 6, tzinfo=UTC)
    books, again = MpesaBooks(1), MpesaBooks(1)
    first = books.receipt(at, "b2c", "600100", "254700000001", 100)
    books.receipt(at, "b2c", "600100", "254700000002", 100)
    again.receipt(at, "b2c", "600100", "254700000002", 100)
    assert again.receipt(at, "b2c", "600100", "254700000001", 100) == first
    assert first.startswith("SG")
    assert books.receipt(at, "b2c", "600100", "254700000001", 100) != first
