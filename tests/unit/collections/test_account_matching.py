import re

from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.mifos_values import FoundAccount
from vault_core.collections.matching import Matched, Unmatched, choose_account, normalise_reference, search_terms


def account(kind="loan", id=1, number="000000012", external_id=None, client=7, *, active=True):  # noqa: A002
    return FoundAccount(kind, id, number, external_id, client, "Jane", active)


def test_the_one_active_account_with_the_number_is_chosen():
    assert choose_account(" 000000012 ", [account()]) == Matched(account())


def test_an_external_id_is_matched_whatever_the_case_of_letters():
    loan = account(external_id="Ln-1001")

    assert choose_account("LN-1001", [loan]) == Matched(loan)
    assert choose_account("ln -1001", [loan]) == Matched(loan)


def test_leading_zeros_are_kept_so_that_12_is_not_000000012():
    assert isinstance(choose_account("12", [account()]), Unmatched)


def test_an_account_that_is_not_active_is_never_chosen():
    result = choose_account("000000012", [account(active=False)])

    assert isinstance(result, Unmatched)
    assert "loan 000000012 is not active" in result.reason


def test_an_active_loan_is_chosen_beside_a_closed_savings_account_of_the_same_number():
    loan, savings = account(), account(kind="savings", client=8, active=False)

    assert choose_account("000000012", [savings, loan]) == Matched(loan)


def test_an_active_savings_account_is_not_chosen_beside_a_closed_loan_of_another_client():
    result = choose_account("000000012", [account(active=False), account(kind="savings", client=8)])

    assert isinstance(result, Unmatched)
    assert "of another client" in result.reason


def test_an_active_savings_account_is_chosen_beside_the_closed_loan_of_the_same_client():
    savings = account(kind="savings")

    assert choose_account("000000012", [account(active=False), savings]) == Matched(savings)


def test_two_active_accounts_are_ambiguous_and_both_are_named():
    result = choose_account("000000012", [account(), account(kind="savings")])

    assert isinstance(result, Unmatched)
    assert result.reason == "the reference fits more than one active account: loan 000000012, savings 000000012"
    assert len(result.candidates) == 2


def test_an_account_found_by_its_number_and_its_external_id_is_one_account():
    loan = account(external_id="000000012")

    assert choose_account("000000012", [loan, loan]) == Matched(loan)


def test_accounts_that_a_sloppy_search_returned_are_not_taken_for_matches():
    assert isinstance(choose_account("000000012", [account(number="0000000123")]), Unmatched)


def test_wildcards_and_signs_are_never_searched_for():
    for typed in ("%", "_", "0000%", "a;b", "", "   ", "é12", "x" * 51):
        assert search_terms(typed) == ()


def test_letters_are_looked_for_as_typed_and_in_both_cases_digits_once():
    assert search_terms(" Ln 1001 ") == ("Ln1001", "LN1001", "ln1001")
    assert search_terms("000000012") == ("000000012",)


accounts = st.builds(
    FoundAccount,
    kind=st.sampled_from(["loan", "savings"]),
    id=st.integers(1, 3),
    account_no=st.sampled_from(["0001", "0002", "1"]),
    external_id=st.sampled_from([None, "0001", "A-1", "a-1"]),
    client_id=st.sampled_from([None, 1, 2]),
    client_name=st.none(),
    active=st.booleans(),
)


@given(st.sampled_from(["0001", "0002", "a-1", " A-1", "1", "", "9"]), st.lists(accounts, max_size=6))
def test_a_match_is_active_bears_the_reference_and_is_the_only_such_account(typed, found):
    result = choose_account(typed, found)

    if isinstance(result, Matched):
        wanted = "".join(typed.split()).upper()
        bearers = {
            (one.kind, one.id) for one in found if one.active and wanted in (one.account_no, (one.external_id or "").upper())
        }
        assert result.account.active
        assert (result.account.kind, result.account.id) in bearers


@given(st.lists(accounts, max_size=6, unique_by=lambda one: (one.kind, one.id)), st.randoms())
def test_the_order_in_which_accounts_are_found_changes_nothing(found, chance):
    shuffled = list(found)
    chance.shuffle(shuffled)

    first, second = choose_account("0001", found), choose_account("0001", shuffled)
    assert type(first) is type(second)
    if isinstance(first, Matched):
        assert first == second


@given(st.lists(accounts, max_size=6, unique_by=lambda one: (one.kind, one.id)))
def test_more_than_one_active_bearer_is_never_matched(found):
    bearers = [one for one in found if one.active and "0001" in (one.account_no, one.external_id)]
    if len(bearers) > 1:
        assert isinstance(choose_account("0001", found), Unmatched)


@given(st.text(max_size=60))
def test_normalising_a_reference_twice_is_normalising_it_once(typed):
    once = normalise_reference(typed)

    assert normalise_reference(once) == once
    assert once == once.strip()


@given(st.text(max_size=60))
def test_only_white_listed_terms_are_searched_for(typed):
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,50}", term) for term in search_terms(typed))
