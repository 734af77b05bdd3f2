"""Every web hook body of the samples, documented and from a real server, gives the right hint and no other."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault_core.disbursements.hook_hints import LoanHint, NoHint, read_hook
from vault_core.errors import InvalidInput

DATA = Path(__file__).parents[2] / "data"

DOCUMENTED = {
    "hook_body_loan_approve.json": LoanHint,
    "hook_body_loan_disburse.json": NoHint,
    "hook_body_loan_repayment.json": NoHint,
    "hook_body_failed_command_legacy.json": NoHint,
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_of_the_documented_hooks_only_the_approval_names_a_loan(name):
    hint = read_hook({}, (DATA / "fineract" / name).read_bytes())
    assert isinstance(hint, DOCUMENTED[name])
    if isinstance(hint, LoanHint):
        assert hint.loan_id == 1041


@pytest.mark.parametrize("path", sorted((DATA / "fineract_live").glob("*.hook.json")), ids=lambda path: path.name.split(".")[0])
def test_of_the_real_servers_hooks_only_approvals_and_undoings_that_took_effect_name_a_loan(path):
    for delivery in json.loads(path.read_text()):
        headers, body = delivery["headers"], delivery["body"]
        if not isinstance(body, dict):  # the ping, or content type form, which is Java text
            with pytest.raises(InvalidInput):
                read_hook(headers, (body or "").encode())
            continue
        hint = read_hook(headers, json.dumps(body).encode())
        event = (body["entityName"], body["actionName"])
        counts = event in {("LOAN", "APPROVE"), ("LOAN", "DISBURSALUNDO")} and "response" in body
        wanted = LoanHint(body["response"]["loanId"], undone=event[1] != "APPROVE") if counts else None
        assert hint == wanted if counts else isinstance(hint, NoHint)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8)).map(
        lambda tree: json.dumps(tree).encode()
    )
)
@settings(max_examples=200, deadline=None)
def test_any_body_gives_a_hint_none_or_invalid_input(body):
    try:
        assert isinstance(read_hook({}, body), LoanHint | NoHint)
    except InvalidInput:
        return
