"""Whatever bytes arrive, a parser gives a value or InvalidInput, and what it gives fits the database and the ledger."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vault_core.clients import mifos_reading as reading
from vault_core.clients.airtouch import classify_send
from vault_core.clients.daraja_answers import classify_payment, classify_registration, read_token, token_was_refused
from vault_core.clients.daraja_messages import parse_confirmation, parse_queue_timeout, parse_result
from vault_core.clients.http_exchange import Answer
from vault_core.clients.json_reading import read_json, text_of, whole_number
from vault_core.clients.mifos_errors import classify_write, read_failure
from vault_core.errors import InvalidInput, RemoteBusy, RemoteRefusal, VaultError
from vault_core.money import Money
from vault_core.outcome import Accepted, Refused, Unknown

HOSTILE = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b"<html><body>Incapsula incident ID</body></html>",
    b'<?xml version="1.0"?><soapenv:Envelope/>',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"Result": {"ResultCode": 1' + b"0" * 5000 + b"}}",
    b'{"Result": {"ResultCode": 0, "ResultParameters": {"ResultParameter": {"Key": "Amount", "Value": 1e999999999}}}}',
    b'{"Result": {"ResultCode": 0, "ResultParameters": {"ResultParameter": [{"Key": "TransactionAmount", "Value": "ten"}]}}}',
    b'{"Result": {"ResultCode": 0, "ResultParameters": {"ResultParameter": [{"Key": "FinalisedTime", "Value": 99999999999999}]}}}',
    b'{"Result": {"ResultCode": "a\\u0000b"}}',
    b'{"TransID": "\\ud800"}',
    b'{"TransID": "X", "TransTime": "00010101000000", "TransAmount": "1", "BusinessShortCode": "600000"}',
    b'{"TransID": "X", "TransTime": "20260230000000", "TransAmount": "1", "BusinessShortCode": "600000"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4), max_leaves=12
)


def wire(value: object) -> bytes:
    return json.dumps(value).encode()


result_keys = st.sampled_from(
    [
        "TransactionAmount",
        "Amount",
        "TransactionReceipt",
        "ReceiptNo",
        "FinalisedTime",
        "ReceiverPartyPublicName",
        "Conversation ID",
    ]
)
parameters = st.lists(st.fixed_dictionaries({"Key": result_keys}, optional={"Value": scalars}), max_size=5)
results = st.fixed_dictionaries(
    {},
    optional={
        "ResultType": scalars,
        "ResultCode": st.sampled_from([0, "0", 1, "SFC_IC0003", None]) | scalars,
        "ResultDesc": scalars,
        "OriginatorConversationID": scalars,
        "ConversationID": scalars,
        "TransactionID": scalars,
        "ResultParameters": st.fixed_dictionaries(
            {}, optional={"ResultParameter": parameters | scalars | st.fixed_dictionaries({"Key": result_keys})}
        )
        | scalars,
        "ReferenceData": trees,
    },
).map(lambda result: {"Result": result})
confirmations = st.fixed_dictionaries(
    {},
    optional={
        "TransID": st.sampled_from(["UA1NUM0001", ""]) | scalars,
        "TransTime": st.sampled_from(["20260101081500", 20260101081500]) | st.from_regex(r"\d{14}", fullmatch=True) | scalars,
        "TransAmount": st.decimals(allow_nan=True, allow_infinity=True).map(str) | scalars,
        "BusinessShortCode": st.sampled_from(["600966", 600966]) | scalars,
        "BillRefNumber": scalars,
        "MSISDN": scalars,
        "FirstName": scalars,
        "OrgAccountBalance": scalars,
    },
)
bodies = st.binary(max_size=200) | trees.map(wire) | results.map(wire) | confirmations.map(wire)


def with_hostile(test):
    for body in HOSTILE:
        test = example(body)(test)
    return test


@with_hostile
@given(bodies)
@settings(max_examples=300, deadline=None)
def test_a_result_is_read_or_invalid(body):
    try:
        result = parse_result(body)
    except InvalidInput:
        return
    assert result.code
    assert "\x00" not in repr(result.parameters) + result.text
    if result.code == "0":
        assert result.amount is None or isinstance(result.amount, Money)
        assert result.completed_at is None or result.completed_at.tzinfo is not None
    assert result.utility_balance is None or isinstance(result.utility_balance, Money)
    assert result.receiver_phone is None or len(result.receiver_phone) == 12


@with_hostile
@given(bodies)
@settings(max_examples=300, deadline=None)
def test_a_customer_payment_is_read_or_invalid(body):
    try:
        sent = parse_confirmation(body)
    except InvalidInput:
        return
    assert sent.amount > Money(0)
    assert sent.receipt
    assert sent.at.utcoffset().total_seconds() == 0
    assert sent.phone is None or len(sent.phone) == 12


@with_hostile
@given(bodies)
@settings(max_examples=200, deadline=None)
def test_a_queue_timeout_is_always_read(body):
    parse_queue_timeout(body)


@with_hostile
@given(bodies | st.just(b'{"errors": 5, "userMessageGlobalisationCode": {}}'))
@settings(max_examples=200, deadline=None)
def test_any_answer_has_an_outcome_and_no_noise_is_a_posting(body):
    for status in (100, 200, 204, 302, 400, 401, 403, 404, 409, 418, 425, 429, 500, 503, 999):
        for outcome in (
            classify_write(status, {}, body, target=("loanId", 1), made="resourceId", external_id="x"),
            classify_payment(Answer(status, {}, body), resend=False),
            classify_send(status, body),
        ):
            assert isinstance(outcome, Refused | Unknown)
        assert isinstance(classify_registration(Answer(status, {}, body)), Accepted | Refused | Unknown)
        assert isinstance(read_failure(status, {}, body, "GET /x"), VaultError)
        token_was_refused(Answer(status, {}, body))
        with pytest.raises((RemoteRefusal, RemoteBusy)):
            read_token(Answer(status, {}, body))


READERS = [
    reading.read_products,
    reading.read_payment_types,
    reading.read_loan_page,
    reading.read_loan,
    reading.read_transaction,
    reading.read_person,
    reading.read_savings,
    reading.read_hooks,
    reading.status_ids,
    lambda body: reading.read_found(body, "1"),
    lambda body: reading.read_date(body, "date"),
]


@given(trees)
@settings(max_examples=200, deadline=None)
def test_any_tree_is_read_or_invalid(tree):
    try:
        value = read_json(wire(tree), "noise")
    except InvalidInput:
        return
    for read in READERS:
        try:
            read(value)
        except InvalidInput:
            continue


@pytest.mark.parametrize("body", HOSTILE[4:11] + HOSTILE[-2:])
def test_what_is_no_plain_json_is_named_in_the_error(body):
    with pytest.raises(InvalidInput, match="the thing is not readable JSON"):
        read_json(body, "the thing")


def test_numbers_keep_every_digit():
    assert text_of(read_json(b"8959269.60", "x")) == "8959269.60"
    assert text_of(read_json(b"1e3", "x")) == "1000"
    assert text_of(read_json(b"1E-30000", "x")) == "1E-30000"
    assert text_of(read_json(b"26.0", "x")) == "26.0"


@pytest.mark.parametrize(
    ("value", "number"),
    [(26, 26), ("26", 26), ("26.0", 26), ("26.5", None), (True, None), ("", None), ("٢٦", None), (None, None), ("-3", None)],
)
def test_a_whole_number_is_taken_in_every_honest_form(value, number):
    assert whole_number(value) == number
