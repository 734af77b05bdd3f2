import json
from pathlib import Path

import pytest

from vault_core.collections.payment_hints import PaymentHint, read_payment_hook

DATA = Path(__file__).parents[2] / "data"


def body(entity, action, response, request=None):
    return json.dumps({"entityName": entity, "actionName": action, "response": response, "request": request or {}}).encode()


def test_the_documented_repayment_is_read():
    hint = read_payment_hook({}, (DATA / "fineract/hook_body_loan_repayment.json").read_bytes())
    assert hint == PaymentHint("loan", 1041, 90877, False, "mpl-c2b-SKN1V7X9LM", "SKN1V7X9LM")


LIVE = {"129_savings_deposit.hook.json": 1, "102_repayment_reverse.hook.json": 1, "178_concurrent_repayments.hook.json": 4}


@pytest.mark.parametrize(("name", "succeeded"), LIVE.items())
def test_of_the_hooks_of_a_running_server_only_those_of_commands_that_succeeded_are_hints(name, succeeded):
    posts = json.loads((DATA / "fineract_live" / name).read_bytes())
    hints = [read_payment_hook(one["headers"], json.dumps(one["body"]).encode()) for one in posts if one["method"] == "POST"]
    payments = [hint for hint in hints if hint is not None]
    assert len(payments) >= succeeded
    assert len(payments) < len(hints) or len(hints) == 1
    assert all(hint.corrected == ("reverse" in name) for hint in payments if "concurrent" not in name)


@pytest.mark.parametrize(
    ("entity", "action", "response", "kind", "corrected"),
    [
        ("LOAN", "REPAYMENT", {"loanId": 7, "resourceId": 9}, "loan", False),
        ("LOAN", "ADJUST", {"loanId": 7, "resourceId": 9}, "loan", True),
        ("SAVINGSACCOUNT", "DEPOSIT", {"savingsId": 7, "resourceId": 9}, "savings", False),
        ("SAVINGSACCOUNT", "UNDOTRANSACTION", {"savingsId": 7, "resourceId": 9}, "savings", True),
        ("SAVINGSACCOUNT", "ADJUSTTRANSACTION", {"savingsId": 7, "resourceId": 9}, "savings", True),
    ],
)
def test_payments_and_corrections_are_told_apart(entity, action, response, kind, corrected):
    hint = read_payment_hook({}, body(entity, action, response))
    assert hint == PaymentHint(kind, 7, 9, corrected, None, None)
    headers = {"X-Mifos-Entity": entity.lower(), "X-Mifos-Action": action.lower()}
    assert read_payment_hook(headers, body(None, None, response)) == hint
    assert read_payment_hook(headers, json.dumps(response).encode()) == hint  # of 1.4: the response alone
    assert read_payment_hook({}, json.dumps(response).encode()) is None


@pytest.mark.parametrize(
    "sent",
    [
        body("LOAN", "APPROVE", {"loanId": 7, "resourceId": 7}),
        body("LOAN", "REPAYMENT", None),
        body("LOAN", "REPAYMENT", {"loanId": 7}),
        body("LOAN", "REPAYMENT", {"savingsId": 7, "resourceId": 9}),
        body("SAVINGSACCOUNT", "WITHDRAWAL", {"savingsId": 7, "resourceId": 9}),
        b"{}",
    ],
)
def test_what_is_no_payment_is_no_hint(sent):
    assert read_payment_hook({}, sent) is None
