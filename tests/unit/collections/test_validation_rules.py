import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.daraja_messages import C2BConfirmation
from vault_core.clients.mifos_values import AccountState, FoundAccount
from vault_core.collections.matching import KnownAccount, Matched, Unmatched, match, read_reference
from vault_core.collections.validation import Code, judge_match, judge_question, unknown
from vault_core.money import Money
from vault_core.partners.collection_settings import CollectionSettings

DEFAULTS = CollectionSettings()
REFUSE_UNKNOWN = replace(DEFAULTS, when_unknown="refuse")


def asked(**changes):
    plain = C2BConfirmation(
        receipt="RKL51ZDR4F",
        at=datetime(2026, 11, 24, tzinfo=UTC),
        amount=Money(500),
        short_code="600966",
        bill_reference="000000012",
        phone_text="2547 ***** 126",
        phone_hash_sha256=None,
        payer_name="JANE",
        org_balance=None,
        transaction_type="Pay Bill",
    )
    return replace(plain, **changes)


def account(**changes):
    return replace(FoundAccount("loan", 1, "000000012", None, 7, None, AccountState.ACTIVE, "KES"), **changes)


def answer(typed, accounts, settings=DEFAULTS, *, believed=True):
    found = match(read_reference(typed, settings), [KnownAccount(one) for one in accounts], settings)
    return judge_match(found, settings, believed=believed)


def test_a_payment_to_an_account_that_takes_it_is_accepted():
    assert judge_question(asked(), "600966", DEFAULTS) is None
    assert answer("000000012", [account()]).plain


def test_a_reference_that_names_no_account_is_refused_as_an_account_number():
    for typed in ("000000013", "", "%", "Sample Transaction"):
        assert answer(typed, [account()]).code is Code.ACCOUNT


def test_what_an_old_mirror_does_not_know_is_left_to_the_partner():
    accepted, refused = (answer("000000013", [], settings, believed=False) for settings in (DEFAULTS, REFUSE_UNKNOWN))

    assert (accepted.code, accepted.known) == (Code.ACCEPTED, False)
    assert (refused.code, refused.known) == (Code.OTHER, False)
    assert answer("000000012", [account()], REFUSE_UNKNOWN, believed=False).plain  # that it exists it may say, however old


@pytest.mark.parametrize("state", ["closed", "written_off", "overpaid", "rejected"])
def test_an_account_that_takes_no_payment_any_more_is_refused_unless_the_partner_takes_it(state):
    over = account(state=AccountState(state))

    assert answer("000000012", [over]).code is Code.ACCOUNT
    assert answer("000000012", [over], replace(DEFAULTS, closed_accounts="accept")).plain
    assert not answer("000000012", [over], believed=False).known


@pytest.mark.parametrize("state", ["pending", "approved", "transfer", "other"])
def test_a_state_that_may_be_over_by_now_is_not_known(state):
    assert not answer("000000012", [account(state=AccountState(state))]).known


def test_a_blocked_account_is_refused_for_its_client():
    assert answer("000000012", [account(state=AccountState.BLOCKED)]).code is Code.CUSTOMER


def test_an_account_in_another_currency_is_refused():
    verdict = answer("000000012", [account(currency="USD")])
    assert (verdict.code, "kept in USD" in verdict.reason) == (Code.ACCOUNT, True)


def test_an_ambiguous_reference_is_taken_because_a_person_can_tell():
    assert answer("000000012", [account(), account(kind="savings")]).plain


def test_a_short_code_an_amount_and_a_number_in_clear_are_judged_without_the_account():
    limited = replace(DEFAULTS, least=Money(1000), most=Money(2000))

    assert judge_question(asked(short_code="600000"), "600966", DEFAULTS).code is Code.SHORT_CODE
    assert judge_question(asked(amount=Money(999)), "600966", limited).code is Code.AMOUNT
    assert judge_question(asked(amount=Money(2001)), "600966", limited).code is Code.AMOUNT
    assert judge_question(asked(amount=Money(2000)), "600966", limited) is None
    assert judge_question(asked(phone_text="12345"), "600966", DEFAULTS).code is Code.PHONE
    for number in (None, "25470****149", "2547 ***** 126", "254708374149", "0708374149", "+254708374149"):
        assert judge_question(asked(phone_text=number), "600966", DEFAULTS) is None


def test_a_partner_without_validation_is_always_told_yes():
    off = replace(REFUSE_UNKNOWN, validation="off")

    assert judge_question(asked(short_code="600000"), "600966", off).plain
    assert unknown("no matter what", off).code is Code.ACCEPTED


@given(st.sampled_from(AccountState), st.sampled_from(["KES", "USD"]), st.booleans(), st.sampled_from(["accept", "refuse"]))
def test_what_matching_would_post_is_never_refused_and_a_refusal_is_never_of_a_match(state, currency, believed, closed):
    settings = replace(REFUSE_UNKNOWN, closed_accounts=closed)
    one = account(state=state, currency=currency)
    found = match(read_reference("000000012", settings), [KnownAccount(one)], settings)

    verdict = judge_match(found, settings, believed=believed)
    if isinstance(found, Matched):
        assert verdict.plain
    if verdict.refused:
        assert isinstance(found, Unmatched)


def test_reasons_hold_no_personal_data():
    verdict = answer("0712000001", [])
    assert "0712" not in verdict.reason


def test_the_documented_question_is_read_and_judged():
    from vault_core.clients.daraja_messages import parse_confirmation

    sample = Path(__file__).parents[2] / "data" / "daraja" / "c2b_validation_v2_masked.json"
    question = parse_confirmation(sample.read_bytes())
    assert json.loads(sample.read_bytes())["OrgAccountBalance"] == ""
    assert judge_question(question, "600966", DEFAULTS) is None
    assert answer(question.bill_reference, [account()]).code is Code.ACCOUNT
