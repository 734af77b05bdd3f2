import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vault_core.clients.daraja_pull import (
    PullQuestion,
    classify_pull,
    classify_pull_registration,
    pull_body,
    pull_registration_body,
)
from vault_core.clients.http_exchange import Answer
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

DATA = Path(__file__).parents[2] / "data/daraja"


def answer(body, status=200):
    return Answer(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def page(body, status=200):
    outcome = classify_pull(answer(body, status))
    assert isinstance(outcome, Accepted), outcome
    return outcome.value


def row(**changes):
    return {
        "transactionId": "SKE7AB12C3",
        "trxDate": "2026-11-20 10:15:00",
        "msisdn": 722000001,
        "sender": "JANE",
        "transactiontype": "c2b-pay-bill-debit",
        "billreference": "0012",
        "amount": "150.00",
        "organizationname": "Umoja",
    } | changes


def answered(*rows, **more):
    return {"ResponseRefID": "1", "ResponseCode": "1000", "ResponseMessage": "Success", "Response": [list(rows)]} | more


def test_the_documented_answer_is_read_with_both_readings_of_its_times():
    first, second = page((DATA / "pull_query_response.json").read_bytes()).payments
    assert (first.receipt, first.amount, first.bill_reference) == ("YZLYRESRG1", Money(168_00), "37207636392")
    assert (first.phone, first.payer_name) == ("72200000", "UAT2")
    assert first.moments == (datetime(2020, 8, 5, 7, 13, tzinfo=UTC), datetime(2020, 8, 5, 10, 13, tzinfo=UTC))
    assert (second.receipt, second.amount) == ("ZOBJR29VDZ", Money(647_00))


def test_the_documented_bodies_are_what_we_send():
    asked = json.loads((DATA / "pull_query_request.json").read_bytes())
    start, end = datetime(2025, 12, 31, 21, tzinfo=UTC), datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert pull_body(PullQuestion("600000", start, end)) == asked
    registered = json.loads((DATA / "pull_register_request.json").read_bytes())
    assert pull_registration_body("600000", "254722000000", "https://example.com/pull") == registered


def test_a_window_that_ends_within_a_second_is_asked_for_to_its_end():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert pull_body(PullQuestion("600000", start, end))["EndDate"] == "2026-01-01 04:00:01"


@pytest.mark.parametrize(
    "body",
    [
        answered(row()),
        answered(row()) | {"Response": [row()]},
        answered(row()) | {"Response": row()},
        answered(row()) | {"Response": [[[row()]]]},
        answered(row()) | {"Response": json.dumps([[row()]])},
        [[row()]],
        {"RequestID": "1", "Response Status": 1000, "Response": [[row()]]},
        answered(row(), ResponseCode="0"),
        answered({"TransactionID": "ske7ab12c3", "TrxDate": "20261120101500", "Amount": 150, "MSISDN": "722000001", "Sender": "JANE",
                  "Bill Reference": "0012"}),
    ],
    ids=["list of lists", "list", "row", "deeper", "text", "bare", "other keys", "other code", "other spellings"],
)  # fmt: skip
def test_rows_are_found_in_every_shape_seen(body):
    [payment] = page(body).payments
    assert (payment.receipt, payment.amount, payment.bill_reference) == ("SKE7AB12C3", Money(150_00), "0012")
    assert payment.moments == (datetime(2026, 11, 20, 7, 15, tzinfo=UTC),)
    assert (payment.phone, payment.payer_name) == ("722000001", "JANE")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[[]]", 200),
        (answered(), 200),
        ({"ResponseCode": "1001", "ResponseMessage": "none", "Response": "[[]]"}, 200),
        ({"Response Status": 1001}, 200),
        ({"ResponseCode": "1000", "Response": []}, 200),
        ({"requestId": "1", "errorCode": "500.001.1001", "errorMessage": "No transactions found"}, 500),
    ],
)
def test_nothing_is_an_empty_page_in_every_shape_seen(body, status):
    assert page(body, status).row_count == 0


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"<html>", 200, Unknown),
        ({"ResponseCode": "1000"}, 200, Unknown),
        ({"ResponseCode": "17", "Response": [[]]}, 200, Unknown),
        ({}, 200, Unknown),
        ({"errorCode": "500.003.02", "errorMessage": "System is busy"}, 500, Refused),
        ({"errorCode": "401.001", "errorMessage": "nope"}, 401, Unknown),
        ({"errorCode": "404.001.01", "errorMessage": "Resource not found"}, 404, Refused),
        (b"", 503, Unknown),
    ],
)
def test_what_is_no_page_is_never_taken_for_an_empty_one(body, status, kind):
    assert isinstance(classify_pull(answer(body, status)), kind)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"transactionId": ""}, "is no receipt"),
        ({"amount": "ten"}, "SKE7AB12C3: amount 'ten'"),
        ({"amount": "-150.00"}, "no payment"),
        ({"amount": "1.001"}, "fraction of a cent"),
        ({"trxDate": "yesterday"}, "trxDate of SKE7AB12C3"),
        ({"trxDate": "2026-02-30 10:00:00"}, "not a moment"),
        ({"trxDate": "0001-01-01T00:00:00Z"}, "trxDate of SKE7AB12C3"),
        ({"transactiontype": "c2b-reversal"}, "not a payment"),
    ],
)
def test_a_row_that_holds_no_payment_is_named_and_counted_and_the_others_are_read(changes, why):
    read = page(answered(row(**changes), row(transactionId="SKE7AB12C4")))
    assert [one.receipt for one in read.payments] == ["SKE7AB12C4"]
    assert read.row_count == 2
    assert "row 1" in read.unreadable[0]
    assert why in read.unreadable[0]


@pytest.mark.parametrize("name", ["MPESA", "m-pesa", "", None])
def test_a_placeholder_is_no_name(name):
    assert page(answered(row(sender=name))).payments[0].payer_name is None


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ((DATA / "pull_register_response.json").read_bytes(), 200, Accepted),
        ({"ResponseStatus": "1001", "ResponseDescription": "ShortCode already Registered"}, 200, Accepted),
        ({"errorCode": "500.001.1001", "errorMessage": "Shortcode already registered"}, 500, Accepted),
        ({"ResponseStatus": "17"}, 200, Unknown),
        (b"<html>", 200, Unknown),
        ({"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid NominatedNumber"}, 400, Refused),
    ],
)
def test_a_registration_is_made_or_stands_or_is_refused(body, status, kind):
    outcome = classify_pull_registration(answer(body, status))
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Refused) or outcome.refusal is Refusal.TERMINAL
