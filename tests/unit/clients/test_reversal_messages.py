import json
from pathlib import Path

import pytest

from vault_core.clients.daraja_messages import parse_result
from vault_core.clients.daraja_reversal import (
    ReversalInstruction,
    SaysNothing,
    SaysNotReversed,
    SaysReversed,
    charge_words,
    read_reversal_result,
    read_reversal_status,
    reversal_body,
)
from vault_core.clients.daraja_values import DarajaLogin
from vault_core.money import Money


@pytest.fixture
def daraja_sample():
    return lambda name: (Path(__file__).parents[2] / "data" / "daraja" / name).read_bytes()


def result(code: object, parameters: dict[str, object] | None = None, own: str | None = "UKO4F1VHOZ"):
    rows = [{"Key": key, "Value": value} for key, value in (parameters or {}).items()]
    outer = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "",
        "TransactionID": own,
        "ResultParameters": {"ResultParameter": rows},
    }
    return parse_result(json.dumps({"Result": outer}).encode())


def test_the_request_is_the_documented_one_with_m_pesas_spelling() -> None:
    wanted = ReversalInstruction("PDU91HIVIT", Money(200_00), "603021", "Payment reversal", "o", "https://e/r", "https://e/q")
    body = reversal_body(DarajaLogin("https://d", "k", "s", "apiop37", "sc"), wanted)
    assert (body["RecieverIdentifierType"], body["CommandID"], body["Amount"]) == ("11", "TransactionReversal", "200")
    assert {
        "Initiator",
        "SecurityCredential",
        "TransactionID",
        "ReceiverParty",
        "ResultURL",
        "QueueTimeOutURL",
        "Remarks",
    } < body.keys()


@pytest.mark.parametrize("code", ["R000002", 1, 11, 21, 2001, 2006, 2028, 8006])
def test_a_listed_code_says_that_nothing_was_given_back(code) -> None:
    assert read_reversal_result(result(code), "RCPT000001", Money(1)) == SaysNotReversed()


@pytest.mark.parametrize("code", [15, 17, 26, 100000001, "SFC_IC0003"])
def test_any_other_code_says_nothing(code) -> None:
    assert isinstance(read_reversal_result(result(code), "RCPT000001", Money(1)), SaysNothing)


def test_reversed_before_is_for_a_person_because_it_names_no_receipt() -> None:
    verdict = read_reversal_result(result("R000001", own="UKO0000000"), "RCPT000001", Money(1))
    assert isinstance(verdict, SaysNothing)
    assert verdict.for_a_person


@pytest.mark.parametrize(
    ("parameters", "own"),
    [
        ({"OriginalTransactionID": "ANOTHER001"}, "UKO4F1VHOZ"),
        ({"Amount": "199.00"}, "UKO4F1VHOZ"),
        ({}, "UKO0000000"),
        ({}, "RCPT000001"),
        ({}, None),
    ],
)
def test_a_success_about_something_else_or_without_a_receipt_of_its_own_books_nothing(parameters, own) -> None:
    assert isinstance(read_reversal_result(result(0, parameters, own), "RCPT000001", Money(200_00)), SaysNothing)


def test_a_success_with_and_without_parameters_is_one() -> None:
    told = {"Amount": "200.00", "TransCompletedTime": 20261124140500, "OriginalTransactionID": "RCPT000001"}
    verdict = read_reversal_result(result(0, told), "RCPT000001", Money(200_00))
    assert isinstance(verdict, SaysReversed)
    assert (verdict.receipt, verdict.at.isoformat()) == ("UKO4F1VHOZ", "2026-11-24T11:05:00+00:00")
    assert read_reversal_result(result("0"), "RCPT000001", Money(200_00)) == SaysReversed("UKO4F1VHOZ", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [("Completed", SaysReversed), ("Declined", SaysNotReversed), ("Expired", SaysNotReversed), ("Initiated", SaysNothing)],
)
def test_the_answer_to_a_question_is_read_by_the_status_in_it(status, kind) -> None:
    said = result(0, {"TransactionStatus": status, "ReceiptNo": "UKO4F1VHOZ", "Amount": 200.0})
    assert isinstance(read_reversal_status(said, "RCPT000001", Money(200_00)), kind)
    assert isinstance(read_reversal_status(result(2033), "RCPT000001", Money(200_00)), SaysNothing)


def test_the_samples_are_read_as_what_they_say(daraja_sample) -> None:
    fine = parse_result(daraja_sample("reversal_result_success_legacy_no_parameters.json"))
    assert read_reversal_result(fine, "PDU91HIVIT", Money(200_00)) == SaysReversed("LGR019G3J2", None)
    bad = parse_result(daraja_sample("reversal_result_fail_R000002.json"))
    assert read_reversal_result(bad, "PDU91HIVIT", Money(200_00)) == SaysNotReversed()
    sent = json.loads(daraja_sample("reversal_request.json"))
    wanted = ReversalInstruction("PDU91HIVIT", Money(200_00), "603021", "Payment reversal", "", "https://e/r", "https://e/q")
    body = reversal_body(DarajaLogin("https://d", "k", "s", "apiop37", "sc"), wanted)
    same = set(sent) - {"SecurityCredential", "ResultURL", "QueueTimeOutURL"}
    assert {key: body[key] for key in same} == {key: sent[key] for key in same}


@pytest.mark.parametrize(
    ("told", "words"),
    [(0, ""), ("0.00", ""), (None, ""), ("27.00", "M-Pesa's charge: 27.00"), ("Fee|KES|5", "M-Pesa's charge: Fee|KES|5")],
)
def test_what_m_pesa_took_for_a_reversal_is_told_and_nothing_is_not(told, words) -> None:
    assert charge_words(result(0, {"Charge": told})) == words
