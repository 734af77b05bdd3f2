"""The SMS gateway of the sandbox."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

SAMPLE = json.loads((Path(__file__).parents[2] / "data" / "sms" / "airtouch_damza.json").read_text())
PHONE = "254700000001"


@pytest.fixture
def gateway(driver):
    user = {"user": "sim-user", "api_key": "SIM", "senders": ["DEMOSENDER"], "price_cents": 80, "balance_cents": 2_40}
    driver.setup(sms={"users": [user]}, settings={"hang_ms": 5})
    return driver


def send(gateway, **changes: Any) -> httpx.Response:
    body = SAMPLE["send_post_json"] | {
        "password": hashlib.md5(b"SIM").hexdigest(),  # noqa: S324 - the gateway's own scheme
        "msisdn": PHONE,
        "sms_id": "m-1",
    }
    return gateway.http.post(f"{gateway.url}/airtouch/sms/api/", json=body | changes)


def book(gateway) -> Any:
    return gateway.truth()["sms"]["users"]["sim-user"]


def test_a_message_is_sent_and_written_down(gateway):
    answer = send(gateway)
    assert answer.json().keys() == SAMPLE["ok"].keys()
    assert (answer.json()["status_code"], answer.json()["status_desc"]) == ("1000", "SUCCESS")
    (message,) = book(gateway)["messages"]
    assert {name: message[name] for name in ("sms_id", "phone", "parts", "sender", "text")} == {
        "sms_id": "m-1",
        "phone": PHONE,
        "parts": 1,
        "sender": "DEMOSENDER",
        "text": "Hello",
    }
    assert book(gateway)["balance_cents"] == 1_60


def test_the_same_reference_is_sent_again(gateway):
    send(gateway)
    send(gateway)
    assert [message["sms_id"] for message in book(gateway)["messages"]] == ["m-1", "m-1"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issn": "OTHER"}, "1001"),
        ({"text": "x" * 500}, "1004"),
        ({"password": "wrong"}, "1006"),
        ({"username": "nobody"}, "1011"),
        ({"msisdn": "0700000001"}, "1002"),
        ({"text": ""}, "1002"),
    ],
)
def test_a_refusal_is_a_200_with_a_code_and_sends_nothing(gateway, changes, code):
    answer = send(gateway, **changes)
    assert (answer.status_code, answer.json()["status_code"], answer.json()["message_id"]) == (200, code, None)
    assert book(gateway)["messages"] == []


def test_several_phones_are_charged_one_by_one(gateway):
    send(gateway, msisdn="254700000001,254700000002")
    assert [message["phone"] for message in book(gateway)["messages"]] == ["254700000001", "254700000002"]
    assert book(gateway)["balance_cents"] == 80


def test_the_balance_can_be_asked(gateway):
    password = hashlib.md5(b"SIM").hexdigest()  # noqa: S324 - the gateway's own scheme
    answer = gateway.http.get(f"{gateway.url}/airtouch/users/balance-api/?username=sim-user&password={password}")
    assert answer.json() == SAMPLE["balance_ok_variants"][0] | {"balance": "2.40"}


def test_sms_refused(gateway):
    gateway.control("faults", {"sms_refused": {"units": [PHONE]}})
    assert send(gateway).json()["status_code"] == "1004"
    assert send(gateway).json()["status_code"] == "1000"
    assert len(book(gateway)["messages"]) == 1


def test_sms_timed_out_after_sending(gateway):
    gateway.control("faults", {"sms_timed_out_after_sending": {"units": [PHONE]}})
    with pytest.raises(httpx.RemoteProtocolError):
        send(gateway)
    assert len(book(gateway)["messages"]) == 1


def test_a_text_outside_the_gsm_alphabet_takes_more_parts(gateway):
    send(gateway, text="\u2019" + "a" * 70)
    assert book(gateway)["parts"] == 2
