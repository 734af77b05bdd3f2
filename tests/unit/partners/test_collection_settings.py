from dataclasses import replace
from pathlib import Path

import pytest

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.collection_settings import CollectionSettings, read_prefixes, read_rules
from vault_core.partners.partner_file import parse_partner_file

GOOD = (Path(__file__).parents[2] / "data" / "partners" / "umoja.toml").read_text(encoding="utf-8")


def test_a_file_without_a_word_about_collections_has_the_defaults():
    assert parse_partner_file(GOOD).collections == CollectionSettings()


def test_what_a_file_says_about_collections_is_read():
    table = """
[collections]
match_rules = ["loan_number", "savings_number+external_id"]
prefixes = { ln = "loan" }
when_unknown = "refuse"
closed_accounts = "accept"
validation = "off"
least = "10"
most = 250000
"""
    assert parse_partner_file(GOOD + table).collections == CollectionSettings(
        match_rules=(("loan_number",), ("savings_number", "external_id")),
        prefixes={"LN": "loan"},
        validation="off",
        when_unknown="refuse",
        closed_accounts="accept",
        least=Money.shillings(10),
        most=Money.shillings(250_000),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('match_rules = ["loans"]', "[collections] match_rules: 'loans' is no rule; there are alias, loan_number"),
        ('match_rules = ["phone", "alias+phone"]', "phone stands there twice"),
        ("match_rules = []", "is not a list of rules"),
        ('prefixes = { "%" = "loan" }', "'%' is no prefix"),
        ('prefixes = { "12" = "loan" }', "'12' is no prefix"),
        ('prefixes = { L = "house" }', "prefix L names 'house'; write one of loan, savings, client"),
        ('when_unknown = "perhaps"', "'perhaps' is none of the choices; write one of accept, refuse"),
        ("validation = true", "validation: is a true/false value, not text"),
        ("least = 0", "must be above zero"),
        ("least = 20\nmost = 10", "is below the least"),
        ("rules = 1", "[collections] key rules is not known"),
    ],
)
def test_what_is_wrong_about_collections_is_named(line, said):
    with pytest.raises(InvalidInput) as caught:
        parse_partner_file(f"{GOOD}\n[collections]\n{line}\n")
    assert said in str(caught.value)


def test_rules_and_prefixes_as_typed_on_the_command_line_are_read_alike():
    assert read_rules(["alias", " loan_number + savings_number "]) == (("alias",), ("loan_number", "savings_number"))
    assert read_prefixes({"loan": "loan"}) == {"LOAN": "loan"}


def test_limits_stay_in_order_when_one_of_them_changes():
    with pytest.raises(InvalidInput):
        replace(CollectionSettings(least=Money(200)), most=Money(100))
