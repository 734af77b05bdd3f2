"""STK push at the level of the wire: every sample has its meaning, and no bytes at all break the callback's reader."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vault_core.clients.daraja_stk import (
    Fate,
    StkPrompt,
    classify_fate,
    classify_prompt,
    parse_stk_callback,
    prompt_body,
)
from vault_core.clients.http_exchange import Answer
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

DATA = Path(__file__).parents[2] / "data" / "daraja"
STATUS = {row["file"]: row["http_status"] for row in json.loads((DATA / "manifest.json").read_text())}
NOON = datetime(2021, 6, 28, 6, 24, 8, tzinfo=UTC)


def answer(name, status=None):
    return Answer(status or STATUS[name] or 200, {}, (DATA / name).read_bytes())


def prompt(**changes):
    given = {
        "short_code": "174379",
        "amount": Money.shillings(1),
        "phone": "254700000001",
        "account_reference": "accountref",
        "description": "txndesc",
        "callback_url": "https://example.com/stk",
        "at": NOON,
    }
    return StkPrompt(**given | changes)


def test_the_request_is_the_sample_s_with_every_value_as_text_and_the_password_of_its_own_timestamp():
    sample = json.loads((DATA / "stk_request.json").read_text())
    body = prompt_body("bfb279", prompt())

    assert body.keys() == sample.keys()
    password = body.pop("Password")
    assert base64.b64decode(password).decode() == "174379bfb27920210628092408"
    assert body == {key: str(value) for key, value in sample.items() if key != "Password"}


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": Money.parse("1.50")},
        {"amount": Money(0)},
        {"amount": Money.shillings(250_001)},
        {"phone": "0712345678"},
        {"account_reference": ""},
        {"account_reference": "1234567890123"},  # cut at 12 it would be another account
        {"account_reference": "loan #1"},
        {"description": "more than thirteen"},
    ],
)
def test_what_mpesa_would_refuse_or_cut_is_never_sent(changes):
    with pytest.raises(InvalidInput):
        prompt(**changes)


PROMPT_ANSWERS = {
    "stk_ack.json": (Accepted, "ws_CO_1007202409152617172396192"),
    "error_stk_lock.json": (Refused, "subscriber_busy", Refusal.RETRY_LATER),
    "error_bad_request_field.json": (Refused, "400.002.02", Refusal.HALT),
    "error_invalid_token_404.json": (Refused, "token_refused", Refusal.RETRY_LATER),
    "error_spike_arrest.json": (Refused, "slow_down", Refusal.RETRY_LATER),
    "stk_query_error_being_processed.json": (Unknown,),
    "stk_query_error_empty_message.json": (Unknown,),
    "error_soap_fault_as_json.json": (Unknown,),
}


@pytest.mark.parametrize("name", PROMPT_ANSWERS)
def test_an_answer_to_a_prompt_has_its_outcome(name):
    outcome = classify_prompt(answer(name))
    kind, *details = PROMPT_ANSWERS[name]
    assert isinstance(outcome, kind)
    if isinstance(outcome, Accepted):
        assert outcome.value.checkout_request_id == details[0]
    if isinstance(outcome, Refused):
        assert [outcome.code, outcome.refusal] == details


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", Unknown),
        (200, b"<html>", Unknown),
        (200, b'{"ResponseCode":"0"}', Unknown),
        (200, b'{"ResponseCode":"1","ResponseDescription":"no"}', Refused),
        (429, b"slow down", Refused),
        (500, b'{"errorCode":"500.001.1001","errorMessage":"Merchant does not exist"}', Refused),
        (500, b'{"errorCode":"500.001.1001","errorMessage":"System internal error"}', Unknown),
        (503, b"<html>Incapsula incident ID</html>", Unknown),
    ],
)
def test_only_a_documented_refusal_says_that_nobody_was_asked(status, body, kind):
    assert isinstance(classify_prompt(Answer(status, {}, body)), kind)


FATES = {
    "stk_query_success.json": (Fate.PAID, "0"),
    "stk_query_1037_other_text.json": (Fate.DECLINED, "1037"),
    "stk_query_4999_pending.json": (Fate.PENDING, "4999"),
    "stk_query_error_being_processed.json": (Fate.PENDING, "500.001.1001"),
    "stk_query_error_empty_message.json": (Fate.PENDING, "500.001.1001"),
    "stk_query_error_not_exist.json": (Fate.PENDING, "500.001.1001"),
}


@pytest.mark.parametrize("name", FATES)
def test_an_answer_about_a_prompt_is_an_end_or_none(name):
    outcome = classify_fate(answer(name))
    assert isinstance(outcome, Accepted)
    assert (outcome.value.fate, outcome.value.code) == FATES[name]


def test_a_code_nobody_lists_is_no_end_and_another_error_no_word_at_all():
    said = classify_fate(Answer(200, {}, b'{"ResponseCode":"0","ResultCode":"777","ResultDesc":"?"}'))
    assert isinstance(said, Accepted)
    assert said.value.fate is Fate.PENDING
    assert isinstance(classify_fate(answer("error_spike_arrest.json")), Refused)
    assert isinstance(classify_fate(Answer(200, {}, b"{}")), Unknown)


CALLBACKS = {
    "stk_callback_success_docs.json": (
        "0",
        Money(100),
        "NLJ7RT61SV",
        datetime(2019, 12, 19, 7, 21, 15, tzinfo=UTC),
        "254708374149",
    ),
    "stk_callback_success_balance_without_value.json": (
        "0",
        Money(100),
        "MAO0DO9BYO",
        datetime(2018, 1, 24, 11, 47, 54, tzinfo=UTC),
        "254700000002",
    ),
    "stk_callback_cancelled_1032.json": ("1032", None, None, None, None),
    "stk_callback_expired_1019.json": ("1019", None, None, None, None),
    "stk_callback_timeout_1037.json": ("1037", None, None, None, None),
    "stk_callback_wrong_pin_2001.json": ("2001", None, None, None, None),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_is_read(name):
    raw = (DATA / name).read_bytes()
    said = parse_stk_callback(raw)
    assert (said.code, said.amount, said.receipt, said.at, said.phone) == CALLBACKS[name]
    assert said.checkout_request_id == json.loads(raw)["Body"]["stkCallback"]["CheckoutRequestID"]


def callback(code=0, items=None, **more):
    said = {"MerchantRequestID": "m", "CheckoutRequestID": "ws_CO_1", "ResultCode": code, "ResultDesc": "d", **more}
    if items is not None:
        said["CallbackMetadata"] = {"Item": items}
    return json.dumps({"Body": {"stkCallback": said}}).encode()


def test_codes_and_values_may_be_texts_or_numbers_and_any_item_may_be_missing():
    texts = [{"Name": "Amount", "Value": "250.00"}, {"Name": "PhoneNumber", "Value": "0712345678"}]
    said = parse_stk_callback(callback("0", texts))
    assert (said.is_success, said.amount, said.phone, said.receipt, said.at) == (True, Money(250_00), "254712345678", None, None)
    assert parse_stk_callback(callback(0)).amount is None
    assert parse_stk_callback(callback(0, {"Name": "MpesaReceiptNumber", "Value": "R1"})).receipt == "R1"
    odd = [{"Name": "TransactionDate", "Value": "soon"}, {"Name": "PhoneNumber", "Value": 7}, {"Name": "Balance"}, 7, None]
    assert (parse_stk_callback(callback(0, odd)).at, parse_stk_callback(callback(0, odd)).phone) == (None, None)


@pytest.mark.parametrize("amount", ["-1", "0", "1.001", "a lot"])
def test_a_success_whose_amount_is_none_is_not_read(amount):
    with pytest.raises(InvalidInput):
        parse_stk_callback(callback(0, [{"Name": "Amount", "Value": amount}]))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
NAMES = st.sampled_from(
    ["Body", "stkCallback", "ResultCode", "CallbackMetadata", "Item", "Name", "Value", "Amount", "CheckoutRequestID"]
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)


BODIES = st.binary(max_size=200) | TREES.map(lambda tree: json.dumps(tree).encode()) | TREES.map(lambda t: callback("0", t))


@given(BODIES)
def test_no_bytes_break_the_reader_of_callbacks(body):
    with suppress(InvalidInput):
        parse_stk_callback(body)


@pytest.mark.campaign
@pytest.mark.timeout(0)
def test_a_million_bodies_do_not_break_it_either():
    settings(max_examples=1_000_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
        test_no_bytes_break_the_reader_of_callbacks
    )()
