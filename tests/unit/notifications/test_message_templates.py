import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.errors import InvalidInput
from vault_core.notifications.segments import is_gsm7, parts
from vault_core.notifications.templates import TEMPLATES, parts_of, plain_value, render

RECEIPT = {"amount": "KES 1,500.00", "kind": "loan", "account": "000000012", "receipt": "SKE7AB12C3", "balance": "KES 300.00"}


def test_a_receipt_names_amount_account_receipt_balance_and_partner_in_one_part():
    text = render("payment_received", RECEIPT, partner="Umoja Credit")

    assert text == (
        "Received KES 1,500.00 for loan 000000012. Receipt SKE7AB12C3. New balance KES 300.00. Thank you. Umoja Credit"
    )
    assert parts(text) == 1


def test_accents_quotes_and_dashes_keep_the_text_in_gsm7():
    assert plain_value("O\u2019Brien \u2013 Wanjirũ  Ng\u2019ang\u2019a") == "O'Brien - Wanjiru Ng'ang'a"
    assert plain_value("Łukasz Đặng") == "Lukasz Dang"
    assert plain_value("a\tb\nc`") == "a b c'"


def test_what_has_no_likeness_becomes_a_question_mark():
    assert plain_value("王 Ali 😀") == "? Ali ?"


def test_a_missing_value_is_refused_and_named():
    with pytest.raises(InvalidInput, match="balance"):
        render("payment_received", {key: RECEIPT[key] for key in ("amount", "kind", "account", "receipt")}, partner="U")


def test_an_unknown_template_is_refused():
    with pytest.raises(InvalidInput, match="no message template 'nope'"):
        render("nope", {}, partner="U")


def test_a_language_without_a_text_falls_back_to_english():
    assert render("payment_received", RECEIPT, partner="U", language="sw") == render("payment_received", RECEIPT, partner="U")


def test_braces_in_a_value_are_only_text():
    assert "{receipt.__class__}" in render(
        "disbursement_failed", {"account": "1", "amount": "KES 1.00", "reason": "{receipt.__class__}"}, partner="U"
    )


@given(st.sampled_from(sorted(TEMPLATES)), st.text(max_size=200), st.text(max_size=100))
def test_every_text_is_gsm7_and_bounded_whatever_the_values(template, value, partner):
    values = dict.fromkeys(TEMPLATES[template].fields, value)
    text = render(template, values, partner=partner)

    assert is_gsm7(text)
    assert 1 <= parts(text) <= 5


@given(st.text(max_size=200))
def test_plain_values_are_stable(value):
    assert plain_value(plain_value(value)) == plain_value(value)


def test_the_reserve_covers_the_text_that_is_sent():
    assert parts_of("payment_received", RECEIPT) >= parts(render("payment_received", RECEIPT, partner="Umoja Credit"))
