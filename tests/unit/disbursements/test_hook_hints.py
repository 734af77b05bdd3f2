import json
from pathlib import Path

import pytest

from vault_core.disbursements.hook_hints import LoanHint, NoHint, read_hook
from vault_core.errors import InvalidInput

DATA = Path(__file__).parents[2] / "data"


def body(**parts) -> bytes:
    return json.dumps(parts).encode()


RESPONSE = {"loanId": 12, "resourceId": 12, "changes": {"status": {"id": 200}}}


def test_an_approval_that_succeeded_hints_at_its_loan() -> None:
    assert read_hook({}, body(entityName="LOAN", actionName="APPROVE", response=RESPONSE)) == LoanHint(12)


@pytest.mark.parametrize("action", ["DISBURSALUNDO", "DISBURSALLASTUNDO"])
def test_an_undoing_that_succeeded_hints_at_its_loan_and_one_that_failed_at_nothing(action: str) -> None:
    undone = {"loanId": 12, "resourceId": 12, "changes": {"status": {"id": 200}}}
    assert read_hook({}, body(entityName="LOAN", actionName=action, response=undone)) == LoanHint(12, undone=True)
    assert isinstance(read_hook({}, body(entityName="LOAN", actionName=action)), NoHint)


@pytest.mark.parametrize("prefix", ["X-Fineract", "X-Mifos", "x-fineract"])
def test_headers_name_what_the_body_does_not(prefix: str) -> None:
    headers = {f"{prefix}-Entity": "LOAN", f"{prefix}-Action": "APPROVE"}
    assert read_hook(headers, body(response=RESPONSE)) == LoanHint(12)


def test_the_flat_body_of_the_predecessor_is_taken() -> None:
    flat = body(officeId=1, clientId=2, loanId=12, resourceId=12, changes={"status": {"id": 200, "waitingForDisbursal": True}})
    assert read_hook({}, flat) == LoanHint(12)


def test_numbers_that_went_through_a_generic_map_are_read() -> None:
    assert read_hook({}, b'{"entityName":"LOAN","actionName":"APPROVE","response":{"loanId":12.0}}') == LoanHint(12)


@pytest.mark.parametrize(
    "parts",
    [
        {"entityName": "LOAN", "actionName": "APPROVE"},
        {"entityName": "LOAN", "actionName": "APPROVE", "status": "Exception", "response": {"errorCode": "x"}},
        {"entityName": "LOAN", "actionName": "DISBURSE", "response": RESPONSE},
        {"entityName": "LOAN", "actionName": "APPROVALUNDO", "response": RESPONSE},
        {"entityName": "CLIENT", "actionName": "APPROVE", "response": RESPONSE},
        {"loanId": 12, "changes": {"status": {"id": 300}}},
        {"loanId": 12},
        {},
    ],
)
def test_a_failed_command_and_every_other_event_hint_at_nothing(parts) -> None:
    assert isinstance(read_hook({}, body(**parts)), NoHint)


@pytest.mark.parametrize("bad", [b"", b"[]", b"<html>", b"\xff", b"createdByName=mifos&entityName=LOAN"])
def test_what_is_no_json_object_is_refused(bad: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_hook({}, bad)


@pytest.mark.parametrize("name", ["033_loan_approve.hook.json", "032_failed_commands.hook.json"])
def test_hooks_of_a_real_server_are_read(name: str) -> None:
    for sent in json.loads((DATA / "fineract_live" / name).read_text()):
        if isinstance(sent["body"], dict):
            hint = read_hook(sent["headers"], json.dumps(sent["body"]).encode())
            assert isinstance(hint, LoanHint if "approve" in name else NoHint)
