"""The batch writer over a store of the test's own, with a clock that stands where the test puts it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from callback_receiver.batch_writer import BatchWriter
from callback_receiver.metrics import Metrics
from callback_receiver.receiver_settings import ReceiverSettings
from vault_core.inbox.receiving import Arrival


class Store:
    """Keeps what it is given; waits, fails or refuses as the test says."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.failures: list[Exception] = []
        self.refused: set[int] = set()
        self.opened = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Store"]:
        self.opened += 1
        yield self

    async def store(self, arrivals: Sequence[Arrival]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        numbers = [arrival.id.int for arrival in arrivals]
        if self.refused & set(numbers):
            raise psycopg.DataError("refused")
        self.batches.append(numbers)


class Harness:
    def __init__(self, **settings: float) -> None:
        self.store = Store()
        self.published: list[int] = []
        self.now = 0.0
        self.metrics = Metrics()
        self.writer = BatchWriter(
            self.store.open,
            lambda arrivals: self.published.extend(arrival.id.int for arrival in arrivals),
            ReceiverSettings(**{"writers": 1, **settings}),
            self.metrics,
            monotonic=lambda: self.now,
        )

    def submit(self, number: int) -> "asyncio.Future[bool]":
        stored = self.writer.submit(arrival(number))
        assert stored is not None
        return stored

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.writer.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def arrival(number: int) -> Arrival:
    return Arrival(
        id=UUID(int=number),
        partner_id=UUID(int=0),
        purpose="b2c_result",
        received_at=datetime(2026, 11, 24, tzinfo=UTC),
        source_ip="127.0.0.1",
        content_type="",
        path_reference=None,
        headers={},
        body=b"{}",
        parsed=True,
    )


async def test_what_arrives_while_a_commit_is_under_way_shares_the_next_one():
    harness = Harness()
    harness.store.gate.clear()
    async with harness.running():
        first = harness.submit(1)
        await harness.store.entered.wait()
        rest = [harness.submit(number) for number in (2, 3, 4)]
        assert not first.done()
        harness.store.gate.set()
        assert await asyncio.gather(first, *rest) == [True] * 4
    assert harness.store.batches == [[1], [2, 3, 4]]
    assert harness.published == [1, 2, 3, 4]


async def test_a_batch_is_never_larger_than_set():
    harness = Harness(batch_most=2)
    waiting = [harness.submit(number) for number in range(1, 6)]
    async with harness.running():
        await asyncio.gather(*waiting)
    assert harness.store.batches == [[1, 2], [3, 4], [5]]


async def test_a_lost_connection_is_tried_once_more_on_a_new_one():
    harness = Harness()
    harness.store.failures = [psycopg.OperationalError("gone")]
    async with harness.running():
        assert await harness.submit(1) is True
    assert (harness.store.opened, harness.store.batches) == (2, [[1]])


async def test_a_database_that_stays_away_is_told_to_each_and_the_next_batch_is_tried_anew():
    harness = Harness()
    harness.store.failures = [psycopg.OperationalError("gone"), ConnectionRefusedError()]
    async with harness.running():
        assert await harness.submit(1) is False
        assert await harness.submit(2) is True
    assert harness.store.batches == [[2]]
    assert harness.published == [2]


async def test_a_delivery_whose_content_the_database_refuses_does_not_take_others_with_it():
    harness = Harness()
    harness.store.refused = {2}
    waiting = [harness.submit(number) for number in (1, 2, 3)]
    async with harness.running():
        assert await asyncio.gather(*waiting) == [True, False, True]
    assert harness.store.batches == [[1], [3]]


async def test_who_waits_too_long_is_told_so_and_what_waited_unwritten_is_not_written_later():
    harness = Harness(commit_within=4.0)
    harness.store.gate.clear()
    async with harness.running():
        under_way = harness.submit(1)
        await harness.store.entered.wait()
        pending = harness.submit(2)
        harness.now = 3.0
        fresh = harness.submit(3)
        assert harness.writer.give_up(harness.now) == 0
        harness.now = 4.5
        assert harness.writer.give_up(harness.now) == 2
        assert (await under_way, await pending) == (False, False)
        harness.store.gate.set()
        assert await fresh is True
    assert harness.store.batches == [[1], [3]]  # the first was under way: stored, though not acknowledged
    assert harness.published == [1, 3]


async def test_too_many_waiting_are_turned_away_at_the_door():
    harness = Harness(waiting_most=2)
    harness.submit(1)
    harness.submit(2)
    assert harness.writer.submit(arrival(3)) is None


async def test_one_that_gave_up_waiting_does_not_disturb_the_others():
    harness = Harness()
    gone, stays = harness.submit(1), harness.submit(2)
    gone.cancel()
    async with harness.running():
        assert await stays is True
    assert harness.store.batches == [[1, 2]]


async def test_an_error_nobody_foresaw_ends_the_writer_loudly():
    harness = Harness()
    harness.store.failures = [RuntimeError("a bug")]
    harness.submit(1)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(harness.writer.run(), 5)
