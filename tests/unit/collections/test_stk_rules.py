"""What is true of a prompt to pay, whichever order its evidence came in, and which payment can be its."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.collections.stk_asking import StkWish
from vault_core.collections.stk_payment import LikePayment, choose, phone_agrees
from vault_core.collections.stk_verdict import StkState, Told, judge, may_be_asked_about, may_be_met_by_payment, next_look
from vault_core.errors import InvalidInput
from vault_core.money import Money

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SOON = timedelta(minutes=1)
PROMPTED = Told(StkState.PROMPTED, True, None, None, None, NOW + timedelta(minutes=15))
LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("callback", "query", "receipt", "before", "after"),
    [
        (None, None, None, StkState.PROMPTED, StkState.EXPIRED),
        (None, "1037", None, StkState.DECLINED, StkState.DECLINED),
        (None, "0", None, StkState.PROMPTED, StkState.EXPIRED),  # paid without a receipt: the money is waited for
        ("0", None, None, StkState.PROMPTED, StkState.EXPIRED),
        ("0", "1032", None, StkState.PROMPTED, StkState.EXPIRED),  # a question never overrides the callback
        ("1032", "0", None, StkState.DECLINED, StkState.DECLINED),
        ("1032", None, "R1", StkState.PAID, StkState.PAID),  # money stands above every word
        (None, "1037", "R1", StkState.PAID, StkState.PAID),
        ("0", "0", "R1", StkState.PAID, StkState.PAID),
    ],
)
def test_money_stands_above_the_callback_that_above_a_question_and_time_last(callback, query, receipt, before, after):
    told = replace(PROMPTED, callback_code=callback, query_code=query, receipt=receipt)
    assert judge(told, NOW) is before
    assert judge(told, LATER) is after


def test_a_refused_prompt_stays_refused_and_an_unanswered_one_expires():
    assert judge(replace(PROMPTED, state=StkState.REFUSED, acknowledged=False), LATER) is StkState.REFUSED
    assert judge(replace(PROMPTED, state=StkState.UNKNOWN, acknowledged=False), NOW) is StkState.UNKNOWN
    assert judge(replace(PROMPTED, state=StkState.UNKNOWN, acknowledged=False), LATER) is StkState.EXPIRED


def test_only_a_running_prompt_that_mpesa_named_is_asked_about():
    assert may_be_asked_about(PROMPTED, NOW)
    assert not may_be_asked_about(PROMPTED, LATER)
    assert not may_be_asked_about(replace(PROMPTED, state=StkState.UNKNOWN, acknowledged=False), NOW)
    assert not may_be_asked_about(replace(PROMPTED, query_code="0"), NOW)
    assert not may_be_asked_about(replace(PROMPTED, callback_code="1032"), NOW)


def test_a_like_payment_counts_where_no_callback_will_tell_better_and_never_against_its_refusal():
    assert not may_be_met_by_payment(PROMPTED, NOW)
    assert may_be_met_by_payment(PROMPTED, LATER)
    assert may_be_met_by_payment(replace(PROMPTED, query_code="0"), NOW)
    assert may_be_met_by_payment(replace(PROMPTED, query_code="1037"), NOW)
    assert may_be_met_by_payment(replace(PROMPTED, state=StkState.UNKNOWN, acknowledged=False), NOW)
    assert not may_be_met_by_payment(replace(PROMPTED, callback_code="1032"), LATER)
    assert not may_be_met_by_payment(replace(PROMPTED, state=StkState.REFUSED, acknowledged=False), LATER)


@given(
    st.sampled_from(StkState),
    st.booleans(),
    st.sampled_from([None, "0", "1032"]),
    st.sampled_from([None, "0", "1037"]),
    st.sampled_from([None, "R1"]),
    st.integers(0, 10 * 24 * 60),
)
def test_what_can_change_is_looked_at_again_within_reason_and_what_cannot_never(state, named, callback, query, receipt, minutes):
    now = NOW + timedelta(minutes=minutes)
    told = Told(state, named, callback, query, receipt, PROMPTED.expires_at)
    look = next_look(told, NOW, now, SOON)
    verdict = judge(told, now)
    if verdict in {StkState.PAID, StkState.REFUSED} or callback == "1032":
        assert look is None
    elif minutes <= 3 * 24 * 60:
        assert look is not None
        assert now < look <= now + max(SOON, timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("told", "agrees"),
    [
        ("254712345126", True),
        ("0712345126", True),
        ("2547 ***** 126", True),
        ("25471****126", True),
        (sha256(b"254712345126").hexdigest(), True),
        ("2547 ***** 127", False),
        ("25472****126", False),
        ("254712345127", False),
        (sha256(b"254712345127").hexdigest(), False),
        ("*****", False),
        ("", False),
        (None, False),
    ],
)
def test_a_payer_s_phone_agrees_only_if_it_can_be_the_one_that_was_asked(told, agrees):
    assert phone_agrees("254712345126", told) is agrees


def like(receipt, phone="2547 ***** 126", rivals=1):
    return LikePayment(receipt, phone, rivals)


def test_a_payment_is_taken_for_a_prompt_s_only_if_it_is_the_only_one_and_of_no_other_prompt():
    phone = "254712345126"
    assert choose(phone, [like("R1")]) == "R1"
    assert choose(phone, [like("R1"), like("R2", phone="2547 ***** 999")]) == "R1"
    assert choose(phone, [like("R1"), like("R2")]) is None
    assert choose(phone, [like("R1", rivals=2)]) is None
    assert choose(phone, []) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"phone": "12"},
        {"key": ""},
        {"key": "k\n"},
        {"key": "k" * 101},
        {"amount": Money.parse("1.50")},
        {"account_reference": "x" * 13},
    ],
)
def test_a_malformed_wish_is_refused_before_anything_is_written(changes):
    given = {"key": "k", "amount": Money.shillings(5), "phone": "0712345678", "account_reference": "12", "description": "loan"}
    StkWish(partner_id=UUID(int=1), asked_by="ops:test", **given)
    with pytest.raises(InvalidInput):
        StkWish(partner_id=UUID(int=1), asked_by="ops:test", **given | changes)
