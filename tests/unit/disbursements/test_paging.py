"""Pages of a set that changes while it is read: what the check of their overlaps promises."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.mifos import LoanPage
from vault_core.disbursements import detection
from vault_core.disbursements.detection import may_have_slipped

SIZE = 4


@pytest.fixture(autouse=True, scope="module")
def small_pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "PAGE", SIZE)
        yield


def page(ids: set[int], offset: int) -> LoanPage:
    return LoanPage(len(ids), [], ids=tuple(sorted(ids)[offset : offset + SIZE]))


def offsets(total: int) -> range:
    return range(SIZE - 1, total - 1, SIZE - 1)


@given(
    start=st.sets(st.integers(1, 60), max_size=30),
    changes=st.lists(st.tuples(st.sets(st.integers(1, 60), max_size=4), st.sets(st.integers(1, 60), max_size=2)), max_size=12),
    chance=st.randoms(use_true_random=False),
)
def test_pages_without_a_gap_hold_every_loan_that_was_approved_all_the_while(start, changes, chance: random.Random) -> None:
    ids, stayed = set(start), set(start)
    first = page(ids, 0)
    wanted = list(offsets(first.total))
    chance.shuffle(wanted)  # pages are read at once, in any order
    read = {}
    for number, offset in enumerate(wanted):
        gone, come = changes[number] if number < len(changes) else (set(), set())
        ids = (ids - gone) | come
        stayed -= gone
        read[offset] = page(ids, offset)
    pages = [first, *(read[offset] for offset in offsets(first.total))]
    if not may_have_slipped(pages):
        assert stayed <= {loan_id for each in pages for loan_id in each.ids}


@given(st.sets(st.integers(1, 200), max_size=40))
def test_a_set_that_stands_still_is_read_once(ids: set[int]) -> None:
    pages = [page(ids, 0), *(page(ids, offset) for offset in offsets(len(ids)))]
    assert not may_have_slipped(pages)
    assert {loan_id for each in pages for loan_id in each.ids} == ids


def test_a_loan_that_moved_past_an_offset_and_one_pushed_off_the_end_are_missed_and_seen() -> None:
    ids = set(range(1, 9))
    assert may_have_slipped([page(ids, 0), page(ids - {1, 2}, 3), page(ids - {1, 2}, 6)])  # 5 is on none of them
    assert may_have_slipped([page({5, 6, 7, 8}, 0), page(set(), 3)])
    assert may_have_slipped([page({5, 6, 7, 8}, 0), page({1, 2, 3, 5, 6, 7, 8, 9}, 3)])
