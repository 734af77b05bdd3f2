"""Account balance in the sandbox: documented on the wire, true to its books, and failing when a switch says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.test_daraja_status_and_c2b import pay

SAMPLES = Path(__file__).parents[2] / "data" / "daraja"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


@pytest.fixture
def bank(driver, listener):
    driver.setup(
        mpesa={
            "apps": [{"consumer_key": "k", "consumer_secret": "s"}],
            "short_codes": {
                "600100": {"name": "ALPHA", "utility_cents": 10_000_00, "working_cents": 50, "security_credential": "cred"}
            },
            "customers": [{"phone": "254708374149", "name": "JANE TEST DOE"}],
        },
        settings={"result_delay_ms": 1, "late_ms": 150, "now": "2026-11-24T21:30:00+00:00"},
    )
    driver.callbacks = listener
    return driver


def ask(bank, **changes: Any):
    body = {
        "Initiator": "api",
        "SecurityCredential": "cred",
        "CommandID": "AccountBalance",
        "PartyA": "600100",
        "IdentifierType": "4",
        "ResultURL": f"{bank.callbacks.url}/i/balance",
        "QueueTimeOutURL": f"{bank.callbacks.url}/i/timeout",
        "Remarks": "OK",
    }
    return bank.daraja("accountbalance/v1/query", body | changes)


def answers(bank, count: int) -> list[dict[str, Any]]:
    return [post.body["Result"] for post in bank.callbacks.wait(count, "/i/balance")]


def parameters(result: dict[str, Any]) -> dict[str, Any]:
    return {row["Key"]: row.get("Value") for row in result["ResultParameters"]["ResultParameter"]}


def test_the_answer_has_the_documented_shape_and_the_balances_of_the_moment(bank):
    pay(bank, "one", "1000")
    acknowledged = ask(bank)
    assert (acknowledged.status_code, acknowledged.json()["ResponseCode"]) == (200, "0")
    (result,) = answers(bank, 1)
    assert result.keys() == sample("balance_result_docs_strings")["Result"].keys()
    assert result["ConversationID"] == acknowledged.json()["ConversationID"]
    told = parameters(result)
    assert told["AccountBalance"] == (
        "Working Account|KES|0.50|0.50|0.00|0.00&Float Account|KES|0.00|0.00|0.00|0.00"
        "&Utility Account|KES|9000.00|9000.00|0.00|0.00&Charges Paid Account|KES|-5.00|-5.00|0.00|0.00"
        "&Organization Settlement Account|KES|0.00|0.00|0.00|0.00"
    )
    assert str(told["BOCompletedTime"]).startswith("202611250030")  # East Africa Time


def test_float_can_be_bought_and_taken_away(bank):
    assert bank.http.post(f"{bank.url}/control/float", json={"short_code": "600100", "utility_cents": 5_00}).json() == {
        "utility_cents": 10_005_00
    }
    bank.http.post(f"{bank.url}/control/float", json={"short_code": "600100", "utility_cents": -10_00})
    assert bank.http.get(f"{bank.url}/truth").json()["mpesa"]["short_codes"]["600100"]["utility_cents"] == 9_995_00


@pytest.mark.parametrize("wish", [{"short_code": "1", "utility_cents": 1}, {"short_code": "600100", "utility_cents": "1"}])
def test_float_that_makes_no_sense_is_refused_with_a_word(bank, wish):
    answer = bank.http.post(f"{bank.url}/control/float", json=wish)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"CommandID": "TransactionStatusQuery"}, "CommandID"),
        ({"PartyA": "600999"}, "PartyA"),
        ({"IdentifierType": "1"}, "IdentifierType"),
        ({"ResultURL": "nowhere"}, "ResultURL"),
        ({"Remarks": ""}, "Remarks"),
    ],
)
def test_the_gateway_names_the_field_it_does_not_take(bank, change, field):
    refused = ask(bank, **change)
    assert (refused.status_code, refused.json()["errorMessage"]) == (400, f"Bad Request - Invalid {field}")


def test_a_wrong_credential_is_taken_and_fails_later_with_parameters_and_no_balance(bank):
    assert ask(bank, SecurityCredential="other").status_code == 200
    (result,) = answers(bank, 1)
    assert result["ResultCode"] == 2001
    assert parameters(result).keys() == {"ActionType", "ErrorMsg", "BOCompletedTime"}


def test_an_answer_can_fail_be_lost_or_come_late(bank):
    bank.control("faults", {"balance_failed": {"times": 1}})
    ask(bank)
    assert answers(bank, 1)[0]["ResultCode"] == 8006
    bank.control("faults", {"balance_failed": None, "balance_result_lost": {"times": 1}})
    ask(bank)
    ask(bank)
    assert len(answers(bank, 2)) == 2
    bank.control("faults", {"balance_result_lost": None, "balance_result_late": {"times": 1}})
    late = ask(bank).json()["ConversationID"]
    soon = ask(bank).json()["ConversationID"]
    assert [result["ConversationID"] for result in answers(bank, 4)[2:]] == [soon, late]
