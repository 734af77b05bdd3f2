"""STK push in the sandbox: documented on the wire, true to its books."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parents[2] / "data" / "daraja"
TIMESTAMP = "20261124120000"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def password(passkey: str = "secret") -> str:
    return base64.b64encode(f"600100{passkey}{TIMESTAMP}".encode()).decode()


@pytest.fixture
def bank(driver, listener):
    driver.setup(
        mpesa={
            "apps": [{"consumer_key": "k", "consumer_secret": "s"}],
            "short_codes": {"600100": {"name": "ALPHA", "passkey": "secret"}},
            "customers": [{"phone": "254711000001", "name": "NO MONEY", "stk_result": 1}],
        },
        settings={"result_delay_ms": 1, "late_ms": 150, "hang_ms": 1},
    )
    driver.daraja(
        "c2b/v2/registerurl",
        {
            "ShortCode": "600100",
            "ResponseType": "Completed",
            "ConfirmationURL": f"{listener.url}/c2b",
            "ValidationURL": f"{listener.url}/v",
        },
    )
    driver.stk_url = f"{listener.url}/stk"
    return driver


def prompt(bank, **changes: Any):
    body = sample("stk_request") | {
        "BusinessShortCode": "600100",
        "PartyB": "600100",
        "Password": password(),
        "Timestamp": TIMESTAMP,
        "Amount": "500",
        "PartyA": "254708374149",
        "PhoneNumber": "254708374149",
        "CallBackURL": bank.stk_url,
    }
    return bank.daraja("stkpush/v1/processrequest", body | changes)


def ask(bank, checkout: str, **changes: Any):
    body = {"BusinessShortCode": "600100", "Password": password(), "Timestamp": TIMESTAMP, "CheckoutRequestID": checkout}
    return bank.daraja("stkpushquery/v1/query", body | changes)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def test_a_paid_prompt_is_acknowledged_told_confirmed_and_in_the_books(bank, listener):
    ack = prompt(bank)
    assert (ack.status_code, ack.json().keys()) == (200, sample("stk_ack").keys())
    (told,), (confirmed,) = listener.wait(1, "/stk"), listener.wait(1, "/c2b")
    assert shape(told.body) == shape(sample("stk_callback_success_balance_without_value"))
    items = {item["Name"]: item.get("Value") for item in told.body["Body"]["stkCallback"]["CallbackMetadata"]["Item"]}
    assert confirmed.body["TransID"] == items["MpesaReceiptNumber"]
    assert confirmed.body["BillRefNumber"] == "accountref"
    [paid] = bank.truth()["mpesa"]["short_codes"]["600100"]["c2b"]
    assert (paid["receipt"], paid["amount_cents"], items["Amount"]) == (items["MpesaReceiptNumber"], 500_00, 500.0)
    assert ask(bank, ack.json()["CheckoutRequestID"]).json().keys() == sample("stk_query_success").keys()


def test_a_prompt_that_is_not_paid_moves_nothing(bank, listener):
    bank.control("faults", {"stk_cancelled": {"units": ["254711000002"]}})
    for phone in ("254711000001", "254711000002"):
        prompt(bank, PartyA=phone, PhoneNumber=phone)
    codes = [post.body["Body"]["stkCallback"]["ResultCode"] for post in listener.wait(2, "/stk")]
    assert sorted(codes) == [1, 1032]
    assert bank.truth()["mpesa"]["short_codes"]["600100"]["c2b"] == []


def test_a_running_prompt_locks_its_phone_and_is_answered_in_four_odd_ways(bank):
    bank.control("settings", {"result_delay_ms": 60_000})
    checkout = prompt(bank).json()["CheckoutRequestID"]
    locked = prompt(bank, Amount="7")
    assert (locked.status_code, locked.json()["errorMessage"]) == (500, sample("error_stk_lock")["errorMessage"])
    answers = [ask(bank, checkout) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 500, 500, 500]
    assert answers[0].json()["ResultCode"] == sample("stk_query_4999_pending")["ResultCode"]
    named = ("being_processed", "empty_message", "not_exist")
    texts = [sample(f"stk_query_error_{name}")["errorMessage"] for name in named]
    assert [answer.json()["errorMessage"] for answer in answers[1:]] == texts


def test_the_same_amount_of_the_same_customer_within_two_minutes_is_refused_by_rule(bank, listener):
    prompt(bank)
    listener.wait(1, "/stk")
    prompt(bank)
    codes = [post.body["Body"]["stkCallback"]["ResultCode"] for post in listener.wait(2, "/stk")]
    assert codes == [0, 17]


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"Password": password("wrong")}, 500, "Wrong credentials"),
        ({"Amount": "0"}, 400, "Bad Request - Invalid Amount"),
        ({"Amount": "1.5"}, 400, "Bad Request - Invalid Amount"),
        ({"PhoneNumber": "0708374149"}, 400, "Bad Request - Invalid PhoneNumber"),
        ({"AccountReference": "1234567890123"}, 400, "Bad Request - Invalid AccountReference"),
        ({"CallBackURL": "https://example.com/mpesa"}, 400, "Bad Request - Invalid CallBackURL"),
        ({"PartyB": "600200"}, 400, "Bad Request - Invalid PartyB"),
    ],
)
def test_a_wrong_field_is_named_and_nobody_is_prompted(bank, changes, status, text):
    answer = prompt(bank, **changes)
    assert (answer.status_code, answer.json()["errorMessage"]) == (status, text)
    assert bank.truth()["mpesa"]["prompts"] == []


def test_a_dead_token_is_refused_in_the_spelling_of_this_interface(bank):
    answer = bank.daraja("stkpush/v1/processrequest", {}, headers={"Authorization": "Bearer nothing"})
    assert (answer.status_code, answer.json()["errorCode"]) == (404, "404.001.03")
