"""Transaction status and C2B in the sandbox."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parents[2] / "data" / "daraja"
PHONE = "254708374149"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


@pytest.fixture
def bank(driver, listener):
    driver.setup(
        mpesa={
            "apps": [{"consumer_key": "k", "consumer_secret": "s"}],
            "short_codes": {
                "600100": {"name": "ALPHA CREDIT", "utility_cents": 10_000_00},
                "700100": {"name": "ALPHA PAY BILL"},
                "700200": {"name": "ALPHA CHECKED", "external_validation": True},
            },
            "customers": [{"phone": PHONE, "name": "JANE TEST DOE"}],
        },
        settings={"result_delay_ms": 1, "late_ms": 150, "now": "2026-11-24T21:30:00+00:00"},
    )
    driver.callbacks = listener
    return driver


def ask(bank, **changes: Any):
    body = {
        "Initiator": "api",
        "SecurityCredential": "cred",
        "CommandID": "TransactionStatusQuery",
        "PartyA": "600100",
        "IdentifierType": "4",
        "ResultURL": f"{bank.callbacks.url}/i/status",
        "QueueTimeOutURL": f"{bank.callbacks.url}/i/timeout",
        "Remarks": "OK",
        "Occasion": "attempt 1",
    }
    return bank.daraja("transactionstatus/v1/query", {k: v for k, v in (body | changes).items() if v is not None})


def pay(bank, originator: str, amount: str = "1000") -> None:
    body = {
        "OriginatorConversationID": originator,
        "InitiatorName": "api",
        "SecurityCredential": "cred",
        "CommandID": "BusinessPayment",
        "Amount": amount,
        "PartyA": "600100",
        "PartyB": PHONE,
        "Remarks": "loan",
        "QueueTimeOutURL": f"{bank.callbacks.url}/i/timeout",
        "ResultURL": f"{bank.callbacks.url}/i/result",
        "Occassion": "",
    }
    assert bank.daraja("b2c/v3/paymentrequest", body).status_code == 200
    bank.wait_until_quiet()


def status_of(bank) -> tuple[dict[str, Any], dict[str, Any]]:
    result = bank.callbacks.wait(1, "/i/status")[-1].body["Result"]
    return result, {row["Key"]: row.get("Value") for row in result.get("ResultParameters", {}).get("ResultParameter", ())}


def test_a_paid_payout_is_found_by_its_id_in_the_shape_of_the_sample(bank):
    pay(bank, "abc-1")
    answer = ask(bank, OriginalConversationID="abc-1").json()
    result, rows = status_of(bank)
    assert result.keys() == sample("txstatus_result_prod_c2b")["Result"].keys()
    assert (result["ResultCode"], result["OriginatorConversationID"]) == (0, answer["OriginatorConversationID"])
    assert result["ReferenceData"]["ReferenceItem"] == {"Key": "Occasion", "Value": "attempt 1"}
    assert (rows["TransactionStatus"], rows["Amount"], rows["OriginatorConversationID"]) == ("Completed", 1000.0, "abc-1")
    assert rows["DebitPartyCharges"] == "Fee For B2C Payment|KES|5.00"
    assert rows["FinalisedTime"] // 10**6 == 20261125  # half past nine in the evening, UTC, is the next day in Kenya
    receipt = bank.truth()["mpesa"]["short_codes"]["600100"]["b2c"][0]["receipt"]
    assert rows["ReceiptNo"] == receipt


def test_it_is_found_by_its_receipt_too(bank):
    pay(bank, "abc-1")
    ask(bank, TransactionID=bank.truth()["mpesa"]["short_codes"]["600100"]["b2c"][0]["receipt"])
    assert status_of(bank)[1]["OriginatorConversationID"] == "abc-1"


def test_a_payout_the_core_refused_is_declined(bank):
    pay(bank, "abc-1", "20000")
    ask(bank, OriginalConversationID="abc-1")
    assert status_of(bank)[1]["TransactionStatus"] == "Declined"


@pytest.mark.parametrize(
    ("question", "code"),
    [({"OriginalConversationID": "never"}, 2033), ({"TransactionID": "UKA0000000"}, 2032)],
)
def test_what_is_not_there_is_2033_or_2032_without_parameters(bank, question, code):
    ask(bank, **question)
    result, rows = status_of(bank)
    assert (result["ResultCode"], rows) == (code, {})
    assert result.keys() == sample("txstatus_result_2033_originator_unknown")["Result"].keys()


def test_an_id_of_another_short_code_is_not_found(bank):
    pay(bank, "abc-1")
    ask(bank, OriginalConversationID="abc-1", PartyA="700100")
    assert status_of(bank)[0]["ResultCode"] == 2033


def test_an_empty_receipt_beside_the_id_is_answered_with_nothing(bank):
    pay(bank, "abc-1")
    answer = ask(bank, OriginalConversationID="abc-1", TransactionID="")
    assert (answer.status_code, set(answer.json().values())) == (200, {""})
    bank.wait_until_quiet()
    assert bank.callbacks.at("/i/status") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("OriginalConversationID", None),
        ("CommandID", "TransactionStatus"),
        ("IdentifierType", "1"),
        ("Initiator", None),
        ("Remarks", ""),
        ("ResultURL", "https://example.com/sql"),
    ],
)
def test_a_wrong_question_is_refused_by_name(bank, field, value):
    answer = ask(bank, **({"OriginalConversationID": "abc-1"} | {field: value}))
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, f"Bad Request - Invalid {field}")


def test_an_answer_can_be_lost(bank):
    bank.control("faults", {"status_result_lost": {"units": [PHONE]}})
    pay(bank, "abc-1")
    ask(bank, OriginalConversationID="abc-1")
    bank.wait_until_quiet()
    assert bank.callbacks.at("/i/status") == []
    ask(bank, OriginalConversationID="abc-1")
    assert status_of(bank)[1]["TransactionStatus"] == "Completed"


def register(bank, code: str = "700100", **changes: Any):
    body = {
        "ShortCode": code,
        "ResponseType": "Completed",
        "ConfirmationURL": f"{bank.callbacks.url}/i/confirm",
        "ValidationURL": f"{bank.callbacks.url}/i/validate",
    }
    return bank.daraja("c2b/v2/registerurl", body | changes)


def customer_pays(bank, code: str = "700100", cents: int = 500_00) -> dict[str, Any]:
    wish = {"short_code": code, "phone": PHONE, "amount_cents": cents, "bill_reference": " ln 1001 "}
    return bank.control("c2b", wish)


def kind_of(value: Any) -> type:
    return float if isinstance(value, int) else type(value)


def test_urls_are_registered_once(bank):
    assert register(bank).json().keys() == sample("ack_register_misspelt_key").keys()
    again = register(bank)
    assert (again.status_code, again.json()["errorMessage"]) == (500, "Urls are already registered.")


@pytest.mark.parametrize(
    ("field", "value"),
    [("ResponseType", "completed"), ("ConfirmationURL", "https://example.com/mpesa"), ("ValidationURL", ""), ("ShortCode", "1")],
)
def test_a_wrong_registration_is_refused_by_name(bank, field, value):
    assert register(bank, **{field: value}).json()["errorMessage"] == f"Bad Request - Invalid {field}"


def test_a_payment_is_confirmed_in_the_shape_of_production(bank):
    register(bank)
    receipt = customer_pays(bank)["receipt"]
    (post,) = bank.callbacks.wait(1, "/i/confirm")
    model = sample("c2b_confirmation_v2_prod_firstname_only")
    assert list(post.body) == list(model)
    assert post.body == model | {
        "TransID": receipt,
        "TransTime": post.body["TransTime"],
        "TransAmount": "500.00",
        "BusinessShortCode": "700100",
        "BillRefNumber": " ln 1001 ",
        "OrgAccountBalance": "500.00",
        "MSISDN": "2547 ***** 149",
        "FirstName": "JANE",
    }
    assert post.body["TransTime"].startswith("20261125003")
    book = bank.truth()["mpesa"]["short_codes"]["700100"]
    assert (book["utility_cents"], [row["receipt"] for row in book["c2b"]]) == (500_00, [receipt])


@pytest.mark.parametrize(
    ("shape", "model", "msisdn"),
    [
        ("v1", "c2b_confirmation_v1_hashed", hashlib.sha256(PHONE.encode()).hexdigest()),
        ("legacy", "c2b_confirmation_legacy_plain_msisdn", PHONE),
        ("numbers", "c2b_confirmation_numeric_types", "2547 ***** 149"),
    ],
)
def test_a_payment_can_be_told_in_the_other_shapes_that_were_seen(bank, shape, model, msisdn):
    register(bank)
    wish = {"short_code": "700100", "phone": PHONE, "amount_cents": 1500_00, "bill_reference": "1001", "shape": shape}
    receipt = bank.http.post(f"{bank.url}/control/c2b", json=wish).json()["receipt"]
    (post,) = bank.callbacks.wait(1, "/i/confirm")
    kinds = {key: kind_of(value) for key, value in sample(model).items() if key not in {"MSISDN", "MiddleName", "LastName"}}
    assert {key: kind_of(post.body[key]) for key in kinds} == kinds
    assert (post.body["TransID"], post.body["MSISDN"]) == (receipt, msisdn)
    assert float(post.body["TransAmount"]) == 1500


def test_without_urls_a_payment_completes_in_silence(bank):
    assert customer_pays(bank)["taken"] is True
    bank.wait_until_quiet()
    assert (bank.callbacks.posts, bank.truth()["mpesa"]["short_codes"]["700100"]["utility_cents"]) == ([], 500_00)


def test_validation_can_refuse_and_then_no_money_moves(bank):
    register(bank, "700200")
    bank.callbacks.answer = lambda path, _: (
        200,
        b'{"ResultCode":"C2B00012","ResultDesc":"Rejected"}' if "validate" in path else b"{}",
    )
    assert customer_pays(bank, "700200") == {"taken": False, "result_code": "C2B00012"}
    (asked,) = bank.callbacks.at("/i/validate")
    assert asked.body.keys() == sample("c2b_validation_v2_masked").keys()
    assert asked.body["OrgAccountBalance"] == ""
    assert bank.truth()["mpesa"]["short_codes"]["700200"]["c2b"] == []


def test_validation_hands_its_own_id_on_to_the_confirmation(bank):
    register(bank, "700200")
    reply = b'{"ResultCode":"0","ResultDesc":"Accepted","ThirdPartyTransID":"1234567890"}'
    bank.callbacks.answer = lambda _path, _body: (200, reply)
    customer_pays(bank, "700200")
    assert bank.callbacks.wait(1, "/i/confirm")[0].body["ThirdPartyTransID"] == "1234567890"


def test_a_validation_that_fails_is_decided_by_the_response_type(bank):
    register(bank, "700200", ResponseType="Cancelled")
    bank.callbacks.answer = lambda _path, _body: (500, b"")
    assert customer_pays(bank, "700200")["taken"] is False


def test_a_confirmation_can_come_twice_or_late(bank):
    register(bank)
    bank.control("faults", {"c2b_confirmation_twice": {"times": 1}})
    customer_pays(bank)
    first, second = bank.callbacks.wait(2, "/i/confirm")
    assert first.body == second.body
    bank.control("faults", {"c2b_confirmation_late": {"times": 1}})
    customer_pays(bank, cents=100_00)
    customer_pays(bank, cents=200_00)
    *_, third, fourth = bank.callbacks.wait(4, "/i/confirm")
    assert (third.body["TransAmount"], fourth.body["TransAmount"]) == ("200.00", "100.00")


@pytest.mark.parametrize(
    "wish",
    [
        {"short_code": "1", "phone": PHONE, "amount_cents": 100},
        {"short_code": "700100", "phone": "0708374149", "amount_cents": 100},
        {"short_code": "700100", "phone": PHONE, "amount_cents": 99},
        {"short_code": "700100", "phone": PHONE, "amount_cents": 100, "shape": "v3"},
        {"short_code": "700100", "phone": PHONE, "amount_cents": "100"},
    ],
)
def test_a_payment_that_makes_no_sense_is_refused_with_a_word(bank, wish):
    answer = bank.http.post(f"{bank.url}/control/c2b", json=wish)
    assert answer.status_code == 400
    assert answer.json()["error"]
