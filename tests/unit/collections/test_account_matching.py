import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.mifos_values import AccountState, FoundAccount
from vault_core.collections.matching import (
    KnownAccount,
    Matched,
    Unmatched,
    compact,
    match,
    normalise_reference,
    read_reference,
    search_terms,
)
from vault_core.partners.collection_settings import CollectionSettings

DEFAULTS = CollectionSettings()
PHONE = b"hash of 0712000001"


def account(kind="loan", id=1, number="000000012", external_id=None, client=7, state="active", currency="KES"):  # noqa: A002
    return FoundAccount(kind, id, number, external_id, client, "Jane", AccountState(state), currency)


def choose(typed, accounts, settings=DEFAULTS, phone=None):
    known = [one if isinstance(one, KnownAccount) else KnownAccount(one) for one in accounts]
    reference = read_reference(typed, settings)
    return match(reference, known, settings, phone_hash=phone if reference.phone else None)


def test_the_one_active_account_with_the_number_is_chosen():
    assert choose(" 000000012 ", [account()]) == Matched(account())


def test_an_external_id_is_matched_whatever_the_case_of_letters():
    loan = account(external_id="Ln-1001")

    assert choose("LN-1001", [loan]) == Matched(loan)
    assert choose("ln -1001", [loan]) == Matched(loan)


def test_leading_zeros_are_kept_so_that_12_is_not_000000012():
    assert isinstance(choose("12", [account()]), Unmatched)


def test_an_account_that_takes_no_payment_is_never_chosen_and_its_end_is_stated():
    ends = {
        "pending": "is not approved yet",
        "approved": "is approved but not paid out or opened yet",
        "blocked": "is blocked for credits in Mifos X",
        "transfer": "is being transferred to another office",
        "overpaid": "is overpaid already",
        "closed": "is closed",
        "written_off": "is written off",
        "rejected": "was rejected or withdrawn",
        "other": "is in a state that takes no payment",
    }
    for state, words in ends.items():
        result = choose("000000012", [account(state=state)])
        assert isinstance(result, Unmatched)
        assert (result.reason, result.bearers) == (f"loan 000000012 {words}", (account(state=state),))
    assert ends.keys() | {"active"} == set(AccountState)


def test_an_account_in_another_currency_is_not_chosen():
    result = choose("000000012", [account(currency="USD")])

    assert isinstance(result, Unmatched)
    assert result.reason == "loan 000000012 is kept in USD, and the payment is in KES"


def test_an_active_loan_is_chosen_beside_a_closed_savings_account_of_the_same_number():
    loan, savings = account(), account(kind="savings", client=8, state="closed")

    assert choose("000000012", [savings, loan]) == Matched(loan)


def test_an_active_savings_account_is_not_chosen_beside_a_closed_loan_of_another_client():
    result = choose("000000012", [account(state="closed"), account(kind="savings", client=8)])

    assert isinstance(result, Unmatched)
    assert "of another client" in result.reason


def test_accounts_without_a_client_are_not_taken_for_those_of_one():
    of_groups = [account(state="closed", client=None), account(kind="savings", client=None)]
    assert isinstance(choose("000000012", of_groups), Unmatched)


def test_an_active_savings_account_is_chosen_beside_the_closed_loan_of_the_same_client():
    savings = account(kind="savings")

    assert choose("000000012", [account(state="closed"), savings]) == Matched(savings)


def test_two_open_accounts_are_ambiguous_and_both_are_named():
    for state in ("active", "blocked", "transfer"):
        result = choose("000000012", [account(), account(kind="savings", state=state)])

        assert isinstance(result, Unmatched)
        assert result.reason == "the reference fits more than one open account: loan 000000012, savings 000000012"
        assert len(result.bearers) == 2


def test_a_partner_that_puts_loans_first_has_them_before_savings_of_the_same_number():
    settings = replace(DEFAULTS, match_rules=(("loan_number",), ("savings_number",)))

    assert choose("000000012", [account(kind="savings"), account()], settings) == Matched(account())
    assert choose("000000012", [account(kind="savings")], settings) == Matched(account(kind="savings"))


def test_the_first_group_that_finds_an_account_decides_although_it_takes_no_payment():
    settings = replace(DEFAULTS, match_rules=(("loan_number",), ("client_number",)))
    closed, anothers = account(state="closed"), KnownAccount(account(id=2, number="000000077", client=8), client_no="000000012")

    assert isinstance(choose("000000012", [closed, anothers], settings), Unmatched)
    assert choose("000000012", [anothers], settings) == Matched(anothers.account)


def test_a_prefix_says_which_of_two_equal_numbers_is_meant():
    loan, savings = account(), account(kind="savings")

    for typed in ("L000000012", "l-000000012", "loan 000000012", "Loan-000000012"):
        assert choose(typed, [loan, savings]) == Matched(loan)
    for typed in ("S000000012", "sav 000000012", "SAVINGS-000000012"):
        assert choose(typed, [loan, savings]) == Matched(savings)
    assert isinstance(choose("X000000012", [loan, savings]), Unmatched)


def test_a_client_is_found_by_a_prefix_and_by_a_bare_number_only_where_the_partner_says_so():
    known = KnownAccount(account(number="000000077"), client_no="000000012")
    bare = replace(DEFAULTS, match_rules=(*DEFAULTS.match_rules, ("client_number",)))

    assert choose("C000000012", [known]) == Matched(known.account)
    assert isinstance(choose("000000012", [known]), Unmatched)
    assert choose("000000012", [known], bare) == Matched(known.account)


def test_a_phone_is_its_clients_one_open_account_and_no_guess_among_two():
    loan = KnownAccount(account(number="000000077"), phone_hash=PHONE)
    savings = KnownAccount(account(kind="savings", number="000000078"), phone_hash=PHONE)
    closed = replace(savings, account=replace(savings.account, state=AccountState.CLOSED))
    anothers = replace(closed, account=replace(closed.account, client_id=8))

    for typed in ("0712000001", "254712000001", "+254 712 000 001"):
        assert choose(typed, [loan, closed], phone=PHONE) == Matched(loan.account)
    assert isinstance(choose("0712000001", [loan, savings], phone=PHONE), Unmatched)
    assert "is another client's" in choose("0712000001", [loan, anothers], phone=PHONE).reason
    assert isinstance(choose("712000001", [loan], phone=PHONE), Unmatched)  # nine digits could be an account number


def test_an_alias_goes_before_everything_else_and_ends_as_its_account_does():
    aliased = KnownAccount(account(id=2, number="000000077"), alias=True)

    assert choose("Mama Njeri's shop", [aliased]) == Matched(aliased.account)
    assert choose("000000012", [account(), aliased]) == Matched(aliased.account)
    closed = replace(aliased, account=replace(aliased.account, state=AccountState.CLOSED))
    assert choose("000000012", [account(), closed]).reason == "loan 000000077 is closed"


def test_an_account_found_by_its_number_and_its_external_id_is_one_account():
    loan = account(external_id="000000012")

    assert choose("000000012", [loan, loan]) == Matched(loan)


def test_accounts_that_a_sloppy_search_returned_are_not_taken_for_matches():
    assert isinstance(choose("000000012", [account(number="0000000123")]), Unmatched)


def test_wildcards_and_signs_are_never_searched_for():
    for typed in ("%", "_", "0000%", "a;b", "", "   ", "é12", "x" * 51):
        assert search_terms(typed) == ()
        assert read_reference(typed, DEFAULTS).numbers == ()


def test_letters_are_looked_for_as_typed_and_in_both_cases_digits_once():
    assert search_terms(" Ln 1001 ") == ("Ln1001", "LN1001", "ln1001")
    assert search_terms("000000012") == ("000000012",)


NUMBERS = ["0001", "0002", "1", "L0001"]
accounts = st.builds(
    FoundAccount,
    kind=st.sampled_from(["loan", "savings"]),
    id=st.integers(1, 3),
    account_no=st.sampled_from(NUMBERS),
    external_id=st.sampled_from([None, "0001", "A-1", "a-1"]),
    client_id=st.sampled_from([None, 1, 2]),
    client_name=st.none(),
    state=st.sampled_from(AccountState),
    currency=st.sampled_from(["KES", "USD"]),
)
knowns = st.builds(
    KnownAccount,
    account=accounts,
    client_no=st.sampled_from([None, "0001", "0009"]),
    phone_hash=st.sampled_from([None, PHONE]),
    alias=st.just(False),
)
everything = st.lists(knowns, max_size=6, unique_by=lambda one: one.key)
references = st.sampled_from(["0001", "0002", "a-1", "1", "L0001", "S0001", "C0001", "C0009", "0712000001", "9", ""])
settings_drawn = st.builds(
    CollectionSettings,
    match_rules=st.permutations(
        [("alias",), ("loan_number", "savings_number", "external_id"), ("prefix",), ("client_number",), ("phone",)]
    ).map(tuple),
)


@given(references, everything, settings_drawn, st.randoms())
def test_any_case_and_any_spaces_of_a_reference_match_the_same(typed, known, settings, chance):
    varied = "".join(
        chance.choice(["", " ", "\t", "  "]) + chance.choice([sign.upper(), sign.lower()]) for sign in typed
    ) + chance.choice(["", " ", "\n"])

    assert choose(varied, known, settings, PHONE) == choose(typed, known, settings, PHONE)


@given(references, everything, settings_drawn)
def test_a_match_takes_payments_and_is_the_only_open_account_that_the_reference_could_name_alike(typed, known, settings):
    result = choose(typed, known, settings, PHONE)

    if isinstance(result, Matched):
        assert (result.account.active, result.account.currency) == (True, "KES")
        bearers = [one for one in known if compact(typed) in (one.account.account_no, (one.account.external_id or "").upper())]
        opened = [one for one in bearers if one.account.state in ("active", "blocked", "transfer")]
        if result.account in [one.account for one in bearers]:
            assert [one.account for one in opened] == [result.account]


@given(references, everything, settings_drawn, st.randoms())
def test_the_order_in_which_accounts_are_found_changes_nothing(typed, known, settings, chance):
    shuffled = list(known)
    chance.shuffle(shuffled)

    assert choose(typed, known, settings, PHONE) == choose(typed, shuffled, settings, PHONE)


@given(references, everything, st.text(alphabet="%_?*.;'\"\\é", min_size=1, max_size=3), st.integers(0, 9))
def test_a_reference_with_a_wildcard_or_another_sign_matches_nothing(typed, known, sign, place):
    place = min(place, len(typed))
    result = choose(typed[:place] + sign + typed[place:], known, phone=PHONE)

    assert isinstance(result, Unmatched)
    assert result.bearers == ()


@given(everything)
def test_more_than_one_open_bearer_of_a_number_is_never_matched(known):
    opened = [
        one
        for one in known
        if one.account.state in ("active", "blocked", "transfer") and "0001" in (one.account.account_no, one.account.external_id)
    ]
    if len(opened) > 1:
        assert isinstance(choose("0001", known), Unmatched)


@given(st.text(max_size=60))
def test_normalising_a_reference_twice_is_normalising_it_once(typed):
    once = normalise_reference(typed)

    assert normalise_reference(once) == once
    assert once == once.strip()


@given(st.text(max_size=60))
def test_only_white_listed_terms_are_searched_for(typed):
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,50}", term) for term in search_terms(typed))
    assert all(re.fullmatch(r"[A-Z0-9-]{1,50}", number) for number in read_reference(typed, DEFAULTS).numbers)
