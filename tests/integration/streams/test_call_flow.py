"""Calls of the outbox are made without a break: a slow one holds up nobody, and what a stopped worker did not begin is offered."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import text

from tests.integration.streams.test_stream_edge import Broker, Message
from vault_core.outbox.calls import MIFOS_TOPIC, Call, Done, NewCall, record_results, take_due_for_relay, write_calls
from vault_core.outbox.message import encode_call_message
from vault_pipelines.streams.call_flow import LARGEST_GROUP, SIDE_BY_SIDE, SMALLEST_GROUP, CallFlow, next_group
from vault_pipelines.streams.edge import Edge, Patience

KIND = "disbursement.post"


class Outside:
    """A handler whose calls end when they are let go; it knows which are under way."""

    def __init__(self) -> None:
        self.under_way: dict[str, asyncio.Event] = {}
        self.seen: list[str] = []
        self.names: dict[object, str] = {}

    async def __call__(self, runtime, _connections, calls: Sequence[Call]) -> None:
        async def one(call: Call) -> None:
            name = self.names[call.subject]
            self.seen.append(name)
            self.under_way[name] = asyncio.Event()
            await self.under_way[name].wait()
            del self.under_way[name]

        await asyncio.gather(*(one(call) for call in calls))
        async with runtime.engine.begin() as connection:
            await record_results(connection, runtime, {call: Done() for call in calls})

    def let_go(self, *names: str) -> None:
        for name in names:
            self.under_way[name].set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what others do is waited for
            await asyncio.sleep(0.01)


class Bench:
    def __init__(self, runtime, lender) -> None:
        self.runtime, self.lender, self.outside = runtime, lender, Outside()
        self.edge = Edge(Broker(), Patience(service=0.5, recording=0.5))
        self.edge._runtime, self.edge._connections = runtime, object()
        self.flow = CallFlow(self.edge, MIFOS_TOPIC, {KIND: self.outside})

    async def offer(self, *names: str) -> None:
        """Writes a call each and has the relay's messages taken; 'a/1' and 'a/2' are of one loan and so of one ordering key."""
        new = {}
        for name in names:
            subject = self.runtime.new_id()
            self.outside.names[subject] = name
            key = f"{self.lender.id}:{name.partition('/')[0]}"
            new[name] = NewCall(self.lender.id, MIFOS_TOPIC, KIND, subject, key)
        async with self.runtime.engine.begin() as connection:
            await write_calls(connection, self.runtime.clock, self.runtime.new_id, list(new.values()))
        await self.take()

    async def take(self) -> None:
        due = await take_due_for_relay(self.runtime)
        await self.flow.take([Message(encode_call_message(call_id), key.encode()) for call_id, _, key in due])

    async def rows(self) -> list:
        async with self.runtime.engine.connect() as connection:
            return (await connection.execute(text("SELECT * FROM outbox ORDER BY id"))).all()


@pytest.fixture
async def bench(runtime, lender):
    bench = Bench(runtime, lender)
    yield bench
    for event in bench.outside.under_way.values():
        event.set()
    await bench.flow.stop()


async def test_a_slow_call_holds_up_none_that_comes_after_it(bench):
    await bench.offer("slow")
    await until(lambda: set(bench.outside.under_way) == {"slow"})
    await bench.offer("b", "c")
    await until(lambda: set(bench.outside.under_way) == {"slow", "b", "c"})
    bench.outside.let_go("b", "c")
    await until(lambda: set(bench.outside.under_way) == {"slow"})
    await bench.offer("d")
    await until(lambda: set(bench.outside.under_way) == {"slow", "d"})


async def test_calls_of_one_ordering_key_are_made_one_after_another_whatever_batch_brings_them(bench):
    await bench.offer("a/1", "b")
    await until(lambda: set(bench.outside.under_way) == {"a/1", "b"})
    await bench.offer("a/2", "c")
    await until(lambda: "c" in bench.outside.under_way)
    assert "a/2" not in bench.outside.seen
    bench.outside.let_go("a/1", "b")
    await until(lambda: "a/2" in bench.outside.under_way)


async def test_a_message_that_comes_again_meanwhile_makes_nothing_twice(bench):
    await bench.offer("a")
    await until(lambda: "a" in bench.outside.under_way)
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET relay_at = due_at"))
    await bench.take()
    bench.outside.let_go("a")
    await until(lambda: not bench.outside.under_way)
    await bench.flow.stop()
    assert bench.outside.seen == ["a"]
    assert [row.state for row in await bench.rows()] == ["done"]


async def test_a_worker_that_stops_has_what_it_did_not_begin_offered_again_at_once_and_ends_what_it_began(bench):
    await bench.offer("a/1")
    await until(lambda: "a/1" in bench.outside.under_way)
    await bench.offer("a/2")
    stopping = asyncio.create_task(bench.flow.stop())
    bench.outside.let_go("a/1")
    await stopping
    assert sorted(row.state for row in await bench.rows()) == ["done", "pending"]
    assert bench.outside.seen == ["a/1"]
    assert len(await take_due_for_relay(bench.runtime)) == 1


async def test_calls_that_cannot_be_claimed_are_left_to_the_relay_and_others_are_made(bench, monkeypatch):
    claims = iter([RuntimeError("nobody foresaw it")])
    make = bench.edge.make

    async def fails_once(*what):
        for error in claims:
            raise error
        return await make(*what)

    monkeypatch.setattr(bench.edge, "make", fails_once)
    await bench.offer("a")
    await bench.offer("b")
    await until(lambda: set(bench.outside.under_way) == {"b"})
    assert [row.state for row in await bench.rows()] == ["pending", "pending"]


def test_a_group_is_a_share_of_what_waits_within_bounds_and_holds_each_key_once():
    waiting = {number: b"key %d" % number for number in range(1000)}
    assert next_group(waiting, set()) == list(range(LARGEST_GROUP))
    few = {number: b"key %d" % number for number in range(SMALLEST_GROUP * SIDE_BY_SIDE)}
    assert next_group(few, {b"key 0"}) == list(range(1, SMALLEST_GROUP + 1))
    assert next_group({1: b"a", 2: b"a", 3: b"b", 4: None, 5: None}, {b"b", None}) == [1, 4, 5]
    assert next_group({1: b"a"}, {b"a"}) == []
