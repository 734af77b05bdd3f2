import asyncio
from dataclasses import dataclass
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.collections import mirror_refresh
from vault_core.collections.mirror_refresh import pages_in_order
from vault_core.errors import NotUnderstood


@dataclass(frozen=True)
class Page:
    total: int
    ids: tuple[int, ...]


async def read_through(rows: list[int], vanishing: dict[int, list[int]], added: dict[int, int], page: int) -> set[int]:
    """The ids met when, before read number n, the rows `vanishing[n]` go and `added[n]` new ones come."""
    reads = 0
    new_ids = count(1000)
    met: set[int] = set()

    async def read(offset: int) -> Page:
        nonlocal reads
        for gone in vanishing.get(reads, []):
            if gone in rows:
                rows.remove(gone)
        rows.extend(islice(new_ids, added.get(reads, 0)))
        reads += 1
        return Page(len(rows), tuple(rows[offset : offset + page]))

    async for each in pages_in_order(read):
        met |= set(each.ids)
        assert reads < 500
    return met


@given(
    st.lists(st.integers(1, 60), unique=True, max_size=40).map(sorted),
    st.dictionaries(st.integers(0, 8), st.lists(st.integers(1, 60), max_size=12), max_size=4),
    st.dictionaries(st.integers(0, 3), st.integers(1, 4), max_size=2),
    st.integers(2, 7),
)
def test_no_row_that_was_there_all_the_while_slips_however_rows_come_and_go(rows, vanishing, added, page):
    lasting = set(rows) - {gone for each in vanishing.values() for gone in each}
    was = mirror_refresh.PAGE
    mirror_refresh.PAGE = page
    try:
        assert lasting <= asyncio.run(read_through(list(rows), vanishing, added, page))
    finally:
        mirror_refresh.PAGE = was


def test_rows_that_move_up_because_others_before_them_vanish_are_read(monkeypatch):
    monkeypatch.setattr(mirror_refresh, "PAGE", 5)
    met = asyncio.run(read_through(list(range(1, 21)), {1: [1, 2, 3], 3: [4, 5, 6]}, {}, page=5))
    assert met >= set(range(7, 21))


def test_a_server_that_sends_fewer_rows_a_page_than_asked_for_is_read_to_the_end():
    assert asyncio.run(read_through(list(range(30)), {}, {}, page=7)) == set(range(30))


def test_a_server_that_does_not_keep_the_order_or_stops_short_is_not_believed():
    async def unordered(_offset: int) -> Page:
        return Page(3, (1, 3, 2))

    async def short(offset: int) -> Page:
        return Page(9, (1, 2, 3)[offset:])

    for read in (unordered, short):
        with pytest.raises(NotUnderstood):
            asyncio.run(_drain(read))


async def _drain(read) -> None:
    async for _ in pages_in_order(read):
        pass
