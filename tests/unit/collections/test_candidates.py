from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.mifos_values import AccountState, FoundAccount
from vault_core.collections.candidates import MOST, Payer, near_keys, with_candidates
from vault_core.collections.matching import KnownAccount, Unmatched, compact, match, read_reference
from vault_core.partners.collection_settings import CollectionSettings

SETTINGS = CollectionSettings()
PHONE = b"hash of a phone"


def loan(id, number, *, client=7, state="active", currency="KES", phone=None, name="Jane Wanjiku", kind="loan"):  # noqa: A002
    found = FoundAccount(kind, id, number, None, client, name, AccountState(state), currency)
    return KnownAccount(found, client_no=f"C{client}", phone_hash=phone)


def candidates(typed, near, *, payer=None, phone=None):
    reference = read_reference(typed, SETTINGS)
    unmatched = match(reference, near, SETTINGS, phone_hash=phone)
    assert isinstance(unmatched, Unmatched)
    scored = with_candidates(unmatched, reference, near, payer or Payer(), phone).candidates
    return {(one.account.kind, one.account.id): (one.score, one.why) for one in scored}


def test_near_numbers_are_scored_by_how_near_they_are():
    near = [loan(1, "000000012"), loan(2, "1000000021"), loan(3, "0000000129"), loan(4, "777777777")]

    assert candidates("12", near) == {("loan", 1): (85, "the same number but for leading zeros")}
    assert candidates("1000000012", [loan(2, "1000000021")]) == {("loan", 2): (70, "two signs of the reference are swapped")}
    assert candidates("1000000029", [loan(2, "1000000021")]) == {("loan", 2): (65, "one sign away from the reference")}


def test_a_closed_loan_is_shown_below_its_clients_open_account():
    near = [loan(1, "000000012", state="closed"), loan(2, "000000900")]

    found = candidates("000000012", near)
    assert list(found) == [("loan", 2), ("loan", 1)]
    assert found["loan", 2] == (60, "of the client of loan 000000012")
    assert found["loan", 1] == (55, "the reference names it; but it is closed")


def test_a_phone_that_was_typed_or_that_paid_points_to_its_client():
    near = [loan(1, "000000012", phone=PHONE), loan(2, "000000900", kind="savings", phone=PHONE)]

    typed = candidates("0712000001", near, phone=PHONE)
    assert [why for _, why in typed.values()] == ["the reference names it; the reference is its client's phone"] * 2
    paid = candidates("nobody", near[:1], payer=Payer(phone_hash=PHONE))
    assert paid == {("loan", 1): (70, "the payer's phone is its client's")}


def test_the_payers_name_raises_a_near_account_and_makes_no_candidate_alone():
    jane = Payer(name="JANE")

    assert candidates("000000013", [loan(1, "000000012")], payer=jane) == {
        ("loan", 1): (75, "one sign away from the reference; the payer's name is its client's")
    }
    assert candidates("nobody", [loan(1, "000000012")], payer=jane) == {}


def test_an_account_in_another_currency_says_so():
    assert candidates("000000013", [loan(1, "000000012", currency="USD")]) == {
        ("loan", 1): (25, "one sign away from the reference; but it is kept in USD")
    }


def test_a_person_is_shown_a_few_at_most():
    assert len(candidates("000000010", [loan(n, f"00000001{n}") for n in range(1, 10)])) == MOST


def test_a_short_reference_is_near_to_nothing():
    assert near_keys("12") == frozenset()
    assert near_keys("") == frozenset()


numbers = st.text(alphabet="0123456789", min_size=3, max_size=10) | st.text(alphabet="ABLN019-", min_size=3, max_size=10)


@given(numbers, st.data())
def test_every_number_one_slip_away_is_near_and_the_number_itself_is_not(number, data):
    place = data.draw(st.integers(0, len(number) - 1))
    sign = data.draw(st.sampled_from("0123456789"))
    slips = {
        number[:place] + sign + number[place + 1 :],
        number[:place] + sign + number[place:],
        number[:place] + number[place + 1 :],
    }

    assert slips - {number} <= near_keys(number)
    assert number not in near_keys(number)
    assert all(abs(len(key) - len(number)) <= 1 for key in near_keys(number))


@given(
    st.text(alphabet="0129L-", max_size=6), st.lists(st.text(alphabet="0129L-", min_size=1, max_size=6), max_size=8, unique=True)
)
def test_scores_are_within_0_and_100_and_best_comes_first(typed, account_numbers):
    near = [loan(n, number, client=n) for n, number in enumerate(account_numbers) if compact(number) != compact(typed)]
    reference = read_reference(typed, SETTINGS)
    unmatched = match(reference, near, SETTINGS)
    if isinstance(unmatched, Unmatched):
        scores = [one.score for one in with_candidates(unmatched, reference, near, Payer(), None).candidates]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score < 100 for score in scores)
