from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.collections.incoming import Facts, IncomingPayment, contradictions, facts_of, is_found_late, merged
from vault_core.money import Money

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HASH = "94c392c311d522da950619227b3361752a42042db7e1e699b26e628305c68a88"

facts = st.builds(
    Facts,
    org_balance=st.none() | st.just(Money(100)),
    bill_reference=st.sampled_from(["", "LN-1"]),
    payer_phone=st.sampled_from([None, "", "2547 ***** 126", "25471****126", HASH, "0712000126", "254712000126"]),
    payer_name=st.sampled_from([None, "", "JANE", "JANE DOE", "JANE WANJIKU DOE"]),
)


@given(st.lists(facts, min_size=1, max_size=4), st.data())
def test_what_is_known_in_the_end_depends_on_neither_order_nor_repeats(told, data):
    repeats = data.draw(st.lists(st.sampled_from(told), max_size=3))
    ends = {reduce(merged, order) for order in permutations(told)}
    ends |= {reduce(merged, [*told, *repeats]), reduce(merged, [*repeats, *told])}
    assert len({(one.org_balance, one.bill_reference, one.payer_phone or "", one.payer_name or "") for one in ends}) == 1


@pytest.mark.parametrize("less", [None, "", "2547 ***** 126", HASH])
def test_a_phone_in_clear_is_never_given_up(less):
    clear = Facts(None, "", "254712000126", None)
    assert merged(Facts(None, "", less, None), clear).payer_phone == merged(clear, Facts(None, "", less, None)).payer_phone
    assert merged(clear, Facts(None, "", less, None)).payer_phone == "254712000126"


def payment(reference="LN-1", cents=100, source="c2b", age=timedelta(0)):
    return IncomingPayment(UUID(int=1), "600100", "R1", Money(cents), NOW - age, source, UUID(int=2), None, reference, None, None)


@pytest.mark.parametrize(
    ("known", "told", "in_what"),
    [
        ("LN-1", payment(" ln-1 "), ()),
        ("", payment("LN-1"), ()),
        ("LN-1", payment(""), ()),
        ("LN-1", payment("LN-2"), ("bill reference",)),
        ("LN-1", payment("LN-2", cents=200), ("amount", "bill reference")),
        ("LN-1", payment(cents=200), ("amount",)),
    ],
)
def test_tellings_contradict_each_other_in_the_amount_or_the_reference(known, told, in_what):
    assert contradictions(Facts(None, known, None, None), Money(100), told) == in_what


def test_a_reference_that_is_known_is_not_replaced():
    assert merged(facts_of(payment("LN-1")), facts_of(payment("LN-2"))).bill_reference == "LN-1"


@pytest.mark.parametrize(
    ("source", "minutes", "late"),
    [("pull", 11, True), ("statement", 11, True), ("pull", 9, False), ("c2b", 600, False), ("stk", 600, False)],
)
def test_only_what_a_pull_or_statement_tells_first_and_late_is_found_late(source, minutes, late):
    assert is_found_late(payment(source=source, age=timedelta(minutes=minutes)), NOW, timedelta(minutes=10)) is late
