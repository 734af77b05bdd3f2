"""Every Daraja sample of the payout, status and pay bill flows is read to the right outcome."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vault_core.clients.daraja_answers import classify_payment, classify_registration, read_token, token_was_refused
from vault_core.clients.daraja_messages import parse_confirmation, parse_queue_timeout, parse_result
from vault_core.clients.http_exchange import Answer
from vault_core.errors import InvalidInput, LoginRefused
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

DATA = Path(__file__).parents[2] / "data" / "daraja"
STATUS = {row["file"]: row["http_status"] for row in json.loads((DATA / "manifest.json").read_text())}


def answer(name: str, status: int | None = None) -> Answer:
    return Answer(status or STATUS[name], {"content-type": "application/json"}, (DATA / name).read_bytes())


# ------------------------------------------------------------------ answers to what we send

PAYMENT_ANSWERS = {
    "b2c_ack.json": (Accepted, "AG_20240706_20106e9209f64bebd05b", "600997_Test_32et3241ed8yu"),
    "b2c_ack_v1_gateway_id.json": (Accepted, "AG_20211007_000072e4a13c529b53e1", "42979-2000873-2"),
    "ack_register_misspelt_key.json": (Unknown,),  # as the answer to a payout: no ConversationID
    "b2c_hakikisha_not_found.json": (Unknown,),
    "error_bad_request_field.json": (Refused, "400.002.02", Refusal.HALT),  # BusinessShortCode is a setting
    "error_duplicate_originator.json": (Unknown,),
    "error_same_code_internal.json": (Unknown,),
    "error_same_code_maintenance.json": (Refused, "slow_down", Refusal.RETRY_LATER),
    "error_invalid_token_401.json": (Refused, "token_refused", Refusal.RETRY_LATER),
    "error_invalid_token_404.json": (Refused, "token_refused", Refusal.RETRY_LATER),
    "error_no_apiproduct.json": (Refused, "no_apiproduct", Refusal.HALT),
    "error_quota.json": (Refused, "slow_down", Refusal.RETRY_LATER),
    "error_spike_arrest.json": (Refused, "slow_down", Refusal.RETRY_LATER),
    "error_soap_fault_as_json.json": (Unknown,),
    "error_stk_lock.json": (Unknown,),
    "error_urls_already_registered.json": (Unknown,),
    "oauth_error_bad_grant.json": (Unknown,),
}


@pytest.mark.parametrize("name", PAYMENT_ANSWERS)
def test_an_answer_to_a_payout_has_its_outcome(name):
    outcome = classify_payment(answer(name), resend=False)
    kind, *details = PAYMENT_ANSWERS[name]
    assert isinstance(outcome, kind)
    if isinstance(outcome, Accepted):
        assert [outcome.value.conversation_id, outcome.value.originator_conversation_id] == details
    if isinstance(outcome, Refused):
        assert [outcome.code, outcome.refusal] == details


@pytest.mark.parametrize("name", [name for name, expected in PAYMENT_ANSWERS.items() if expected[0] is not Accepted])
def test_on_a_resend_nothing_but_an_acknowledgement_is_a_verdict(name):
    assert isinstance(classify_payment(answer(name), resend=True), Unknown)


def test_a_refusal_text_never_carries_the_access_token_that_the_gateway_echoes():
    outcome = classify_payment(answer("error_invalid_token_401.json"), resend=False)
    assert "BJGFGQXV5aZnw9QKA4TDtu4Xdyf" not in repr(outcome)


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        ("error_invalid_token_401.json", True),
        ("error_invalid_token_404.json", True),
        ("error_no_apiproduct.json", False),
        ("error_bad_request_field.json", False),
        ("error_duplicate_originator.json", False),
        ("b2c_ack.json", False),
    ],
)
def test_only_a_dead_token_is_replaced(name, dead):
    assert token_was_refused(answer(name)) is dead


def test_registration_takes_the_misspelt_acknowledgement_and_tells_an_earlier_registration():
    assert classify_registration(answer("ack_register_misspelt_key.json")) == Accepted(None)
    again = classify_registration(answer("error_urls_already_registered.json"))
    assert isinstance(again, Refused)
    assert (again.code, again.refusal) == ("already_registered", Refusal.TERMINAL)


def test_a_token_is_read_with_its_lifetime_as_number_and_as_text():
    token, lifetime = read_token(answer("oauth_token_expires_number.json"))
    assert (token, lifetime) == ("c9SQxWWhmdVRlyh0zh8gZDTkubVF", timedelta(seconds=3599))
    as_text = Answer(200, {}, b'{"access_token": "t", "expires_in": "3599"}')
    assert read_token(as_text)[1] == timedelta(seconds=3599)


def test_a_refused_grant_is_a_refused_login():
    with pytest.raises(LoginRefused) as refused:
        read_token(answer("oauth_error_bad_grant.json"))
    assert refused.value.code == "400.008.02"


# ------------------------------------------------------------------ results

U = UTC
SUCCESSES = {
    "b2c_result_success_docs.json": (
        1000,
        "SG632NMUAB",
        "JANE TEST DOE",
        "254700000001",
        datetime(2024, 7, 6, 19, 48, 52, tzinfo=U),
        895926960,
    ),
    "b2c_result_success_2017.json": (
        800000,
        "LGH3197RIB",
        "John Doe",
        "254708374149",
        datetime(2017, 7, 17, 7, 54, 57, tzinfo=U),
        13356800,
    ),
    "b2c_result_success_prod_local_msisdn.json": (
        10000,
        "SIN5LJDZ7Z",
        "Jane Test Doe",
        "254100000001",
        datetime(2024, 9, 23, 14, 8, 40, tzinfo=U),
        522500,
    ),
    "b2c_result_success_prod_reordered.json": (
        1000,
        "REH3SOIU9T",
        "JANE DOE",
        "254700000002",
        datetime(2023, 5, 17, 19, 41, 32, tzinfo=U),
        597000,
    ),
    "b2c_result_success_sandbox_negative_charges.json": (
        1000,
        "NLJ41HAY6Q",
        "John Doe",
        "254708374149",
        datetime(2019, 12, 19, 8, 45, 50, tzinfo=U),
        1011600,
    ),
    "b2c_result_success_string_codes.json": (
        10000,
        "SDA12345678",
        "John Doe",
        "254712345678",
        datetime(2024, 1, 1, 6, 0, tzinfo=U),
        500000,
    ),
    "b2c_result_success_reference_array_and_value_missing.json": (
        150000,
        "UA1AB2CD3E",
        None,
        None,
        datetime(2026, 1, 1, 5, 15, tzinfo=U),
        12500055,
    ),
}


@pytest.mark.parametrize("name", SUCCESSES)
def test_a_successful_result_gives_amount_receipt_receiver_time_and_float(name):
    result = parse_result((DATA / name).read_bytes())
    cents, receipt, receiver, phone, completed, balance = SUCCESSES[name]
    assert (result.result_type, result.code) == (0, "0")
    assert (result.amount, result.receipt, result.receiver_name) == (Money(cents), receipt, receiver)
    assert (result.receiver_phone, result.completed_at, result.utility_balance) == (phone, completed, Money(balance))
    assert result.originator_conversation_id
    assert result.conversation_id.startswith("AG_")


FAILURES = {
    "b2c_result_fail_1_insufficient.json": ("1", "PJ71VRERKR"),
    "b2c_result_fail_2_limit.json": ("2", "UA10000000"),
    "b2c_result_fail_8_max_balance.json": ("8", "UA10000000"),
    "b2c_result_fail_17_internal_zero_id.json": ("17", "0000000000000000"),
    "b2c_result_fail_2001.json": ("2001", "SG722NMVXQ"),
    "b2c_result_fail_2001_generic_id.json": ("2001", "NLJ0000000"),
    "b2c_result_fail_8006_sandbox.json": ("8006", "UIU0000000"),
    "b2c_result_fail_no_transaction_id.json": ("2001", None),
    "b2c_result_fail_single_parameter_object.json": ("2001", "OAK0000000"),
    "txstatus_result_2033_originator_unknown.json": ("2033", "UGI0000000"),
    "txstatus_result_25_bad_parameter.json": ("25", "UA10000000"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_result_gives_its_code_and_no_receipt_whatever_its_transaction_id_looks_like(name):
    result = parse_result((DATA / name).read_bytes())
    assert (result.code, result.transaction_id) == FAILURES[name]
    assert (result.receipt, result.amount, result.transaction_status) == (None, None, None)
    assert result.originator_conversation_id


def test_a_single_parameter_object_and_a_reference_list_are_read_like_their_usual_forms():
    single = parse_result((DATA / "b2c_result_fail_single_parameter_object.json").read_bytes())
    assert single.parameters == {"BOCompletedTime": "20200120164825"}
    listed = parse_result((DATA / "b2c_result_fail_17_internal_zero_id.json").read_bytes())
    assert listed.reference_items["BillReferenceNumber"] == "1d2ea2b9"
    assert listed.reference_items["Occassion"] == ""


def test_a_status_answer_tells_the_payment_inside_from_the_question_outside():
    result = parse_result((DATA / "txstatus_result_prod_c2b.json").read_bytes())
    assert (result.code, result.transaction_status, result.receipt) == ("0", "Completed", "SB659DEI29")
    assert result.amount == Money(100)
    assert result.completed_at == datetime(2024, 2, 6, 11, 36, 45, tzinfo=UTC)
    assert result.originator_conversation_id == "8aec-4878-bb2e-835d301b747563942456"
    assert result.payment_originator_conversation_id == "3fec-4d4e-8899-f6343499627422355256"
    assert result.payment_conversation_id == "AG_20240206_2070311589e691000924"
    assert result.receiver_name == "SAMPLE COUNTY HOSPITAL"
    assert result.reference_items["Occasion"] == "Payment of invoice for services rendered"


def test_a_status_answer_of_2017_with_spaces_in_its_keys_is_read_the_same():
    result = parse_result((DATA / "txstatus_result_legacy_spaced_keys.json").read_bytes())
    assert (result.transaction_status, result.receipt, result.amount) == ("Completed", "LGR919G2AV", Money(1000))
    assert result.payment_originator_conversation_id == "19455-773836-1"
    assert result.payment_conversation_id == "AG_20170727_00004492b1b6d0078fbe"
    assert (result.receiver_name, result.receiver_phone) == ("John Doe", "254708374149")


def test_a_queue_timeout_is_no_result_and_gives_the_ids_it_has():
    envelope = (DATA / "b2c_queue_timeout_result_envelope.json").read_bytes()
    assert parse_queue_timeout(envelope).originator_conversation_id == "7f2b6c1e-2d1a-4a8e-9d0e-0000000qt001"
    flat = (DATA / "b2c_queue_timeout_request_id_only.json").read_bytes()
    assert parse_queue_timeout(flat).originator_conversation_id is None
    with pytest.raises(InvalidInput, match="no object Result"):
        parse_result(flat)


def test_the_sandboxes_timeout_envelope_carries_result_type_one_so_that_its_code_is_not_taken_for_a_verdict():
    result = parse_result((DATA / "b2c_queue_timeout_result_envelope.json").read_bytes())
    assert (result.result_type, result.code) == (1, "1")


# ------------------------------------------------------------------ customer payments

HASH = "94c392c311d522da950619227b3361752a42042db7e1e699b26e628305c68a88"
CONFIRMATIONS = {
    # receipt, UTC time, cents, short code, reference, phone text, phone, hash, name, balance, type
    "c2b_confirmation_buygoods_no_names.json": (
        "SBJ73CD8WT",
        datetime(2025, 10, 1, 14, 20, 30, tzinfo=U),
        98050,
        "987654",
        "",
        "254113456789",
        "254113456789",
        None,
        None,
        3150000,
        "Buy Goods",
    ),
    "c2b_confirmation_legacy_plain_msisdn.json": (
        "NCD81H87FU",
        datetime(2019, 3, 13, 13, 38, 6, tzinfo=U),
        10000,
        "600364",
        "0000",
        "254708374149",
        "254708374149",
        None,
        "John J. Doe",
        12963500,
        "Pay Bill",
    ),
    "c2b_confirmation_legacy_thirdparty_echo.json": (
        "LGR219G3EY",
        datetime(2017, 7, 27, 7, 42, 47, tzinfo=U),
        1000,
        "600134",
        "xyz",
        "254708374149",
        "254708374149",
        None,
        "John",
        4919700,
        "",
    ),
    "c2b_confirmation_numeric_types.json": (
        "UA1NUM0001",
        datetime(2026, 1, 1, 5, 15, tzinfo=U),
        150000,
        "600966",
        "1001",
        "254700000001",
        "254700000001",
        None,
        None,
        2500050,
        "Pay Bill",
    ),
    "c2b_confirmation_v1_hashed.json": (
        "TK60708BHZ",
        datetime(2025, 11, 6, 20, 2, 12, tzinfo=U),
        100,
        "600995",
        "UM001",
        None,
        None,
        HASH,
        "JANE TEST DOE",
        4188026480,
        "Pay Bill",
    ),
    "c2b_confirmation_v1_partly_masked_docs.json": (
        "RKTQDM7W6S",
        datetime(2019, 11, 22, 3, 38, 45, tzinfo=U),
        1000,
        "600638",
        "invoice008",
        "25470****149",
        None,
        None,
        "John Doe",
        None,
        "Pay Bill",
    ),
    "c2b_confirmation_v2_free_text_ref.json": (
        "SB62A1SVRK",
        datetime(2024, 2, 6, 14, 52, 4, tzinfo=U),
        100,
        "4000002",
        "ln 1001",
        "2547 ***** 845",
        None,
        None,
        "JANE",
        16100,
        "Pay Bill",
    ),
    "c2b_confirmation_v2_prod_firstname_only.json": (
        "RAJ7PFM0SH",
        datetime(2023, 1, 19, 9, 15, 44, tzinfo=U),
        100,
        "4000001",
        "test",
        "2547 ***** 797",
        None,
        None,
        "JANE",
        21239100,
        "Pay Bill",
    ),
    "c2b_confirmation_v2_prod_from_stk.json": (
        "SB65A1TU7X",
        datetime(2024, 2, 6, 14, 52, 12, tzinfo=U),
        400,
        "4000002",
        "2046332",
        "2547 ***** 063",
        None,
        None,
        "JOHN",
        16500,
        "Pay Bill",
    ),
    "c2b_validation_v2_masked.json": (
        "RKL51ZDR4F",
        datetime(2023, 11, 21, 9, 13, 25, tzinfo=U),
        500,
        "600966",
        "Sample Transaction",
        "2547 ***** 126",
        None,
        None,
        "JANE",
        None,
        "Pay Bill",
    ),
}


@pytest.mark.parametrize("name", CONFIRMATIONS)
def test_a_customer_payment_is_read_in_every_form_it_comes_in(name):
    sent = parse_confirmation((DATA / name).read_bytes())
    receipt, at, cents, short_code, reference, phone_text, phone, hashed, payer, balance, kind = CONFIRMATIONS[name]
    assert (sent.receipt, sent.at, sent.amount, sent.short_code) == (receipt, at, Money(cents), short_code)
    assert (sent.bill_reference, sent.phone_text, sent.phone, sent.phone_hash_sha256) == (reference, phone_text, phone, hashed)
    assert (sent.payer_name, sent.transaction_type) == (payer, kind)
    assert sent.org_balance == (Money(balance) if balance is not None else None)


@pytest.mark.parametrize(
    "name", ["c2b_confirmation_reply.json", "c2b_validation_reply_accept.json", "c2b_validation_reply_accept_thirdparty.json"]
)
def test_our_own_replies_are_not_customer_payments(name):
    with pytest.raises(InvalidInput, match="no TransID"):
        parse_confirmation((DATA / name).read_bytes())


REQUESTS = {
    "b2c_v3_request.json",
    "b2c_v3_request_numeric.json",
    "b2c_v1_request.json",
    "c2b_register_request.json",
    "txstatus_request_by_originator.json",
}
OF_OTHER_KINDS = {
    "oauth_token_expires_number.json",
    "b2c_queue_timeout_result_envelope.json",
    "b2c_queue_timeout_request_id_only.json",
    "txstatus_result_prod_c2b.json",
    "txstatus_result_legacy_spaced_keys.json",
    "c2b_confirmation_reply.json",
    "c2b_validation_reply_accept.json",
    "c2b_validation_reply_accept_thirdparty.json",
}


def test_no_sample_of_these_flows_is_left_out():
    flows = ("ack_", "b2c_", "c2b_", "error_", "oauth_", "txstatus_")
    present = {path.name for path in DATA.glob("*.json") if path.name.startswith(flows)}
    tested = {*PAYMENT_ANSWERS, *SUCCESSES, *FAILURES, *CONFIRMATIONS, *REQUESTS, *OF_OTHER_KINDS}
    assert present - tested == set()
