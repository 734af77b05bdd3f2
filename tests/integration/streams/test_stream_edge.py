"""The edge between Kafka batches and services, on a real database: nothing is acknowledged that is written nowhere."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from vault_core.cases.case_book import list_open_cases
from vault_core.errors import DatabaseBusy
from vault_core.inbox.envelope import encode_envelope
from vault_core.outbox.calls import Call, Done, NewCall, record_results, write_calls
from vault_core.outbox.message import encode_call_message
from vault_pipelines.streams.edge import Edge, Patience, waves
from vault_pipelines.streams.recorder import EFFECT, record_deliveries

TOPIC = "mpesa.stk.results"


@dataclass
class Message:
    value: bytes | None
    key: bytes | None = None


class Broker:
    def __init__(self) -> None:
        self.messages: list[tuple] = []
        self.failures: list[Exception] = []

    async def __call__(self, topic, key, value, headers):
        if self.failures:
            raise self.failures.pop(0)
        self.messages.append((topic, key, value, headers))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def edge(runtime, broker) -> Edge:
    edge = Edge(broker, Patience(service=0.5, recording=0.5))
    edge._runtime = runtime
    edge._connections = object()
    return edge


def messages(runtime, ids) -> list[Message]:
    from uuid import UUID

    return [Message(encode_envelope(event_id, UUID(int=7), "stk_result", runtime.clock.now(), b"{}")) for event_id in ids]


async def rows_of(runtime):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text("SELECT * FROM inbound_events ORDER BY id"))).all()


async def test_a_batch_is_applied_and_repeats_in_it_or_after_it_do_nothing(edge, runtime, store):
    ids = await store(b"{}", b"{}", purpose="stk_result")
    batch = messages(runtime, [*ids, ids[0]])
    await edge.apply(TOPIC, batch, record_deliveries)
    await edge.apply(TOPIC, batch, record_deliveries)
    assert [(row.state, row.effect) for row in await rows_of(runtime)] == [("processed", EFFECT)] * 2


@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"[]", b'{"event_id": 7}', b'{"event_id": "x"}', b"\xff"])
async def test_a_message_that_nobody_can_read_goes_to_the_dead_letters_and_its_neighbours_are_applied(
    edge, runtime, store, broker, value
):
    ids = await store(b"{}", purpose="stk_result")
    await edge.apply(TOPIC, [Message(value, b"k"), *messages(runtime, ids)], record_deliveries)
    ((topic, key, buried, headers),) = broker.messages
    assert (topic, key, buried, headers["topic"]) == ("vault.dead-letters", b"k", value, TOPIC.encode())
    assert [row.state for row in await rows_of(runtime)] == ["processed"]


async def test_what_may_pass_is_tried_again_in_place(edge, runtime, store):
    ids = await store(b"{}", purpose="stk_result")
    failures = [DatabaseBusy("lock"), ConnectionResetError()]

    async def handler(runtime, connections, ids):
        if failures:
            raise failures.pop(0)
        await record_deliveries(runtime, connections, ids)

    await edge.apply(TOPIC, messages(runtime, ids), handler)
    assert [row.state for row in await rows_of(runtime)] == ["processed"]


async def test_what_does_not_pass_in_time_is_left_to_the_sweep(edge, runtime, store):
    ids = await store(b"{}", purpose="stk_result")
    calls = 0

    async def handler(_runtime, _connections, _ids):
        nonlocal calls
        calls += 1
        raise DatabaseBusy("lock")

    await edge.apply(TOPIC, messages(runtime, ids), handler)
    assert calls > 1
    assert [(row.state, row.cause) for row in await rows_of(runtime)] == [("stored", None)]


async def test_an_error_nobody_foresaw_is_recorded_at_the_delivery_that_raises_it_and_at_no_other(edge, runtime, store):
    ids = await store(*[b"%d" % n for n in range(5)], purpose="stk_result")

    async def handler(runtime, connections, wanted: Sequence):
        if ids[2] in wanted:
            raise AttributeError("a bug")
        await record_deliveries(runtime, connections, wanted)

    await edge.apply(TOPIC, messages(runtime, ids), handler)
    rows = {row.id: row for row in await rows_of(runtime)}
    assert (rows[ids[2]].state, rows[ids[2]].cause) == ("exception", "AttributeError: a bug")
    assert sum(row.state == "processed" for row in rows.values()) == 4


async def call_rows(runtime):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text("SELECT * FROM outbox ORDER BY id"))).all()


async def written(runtime, lender, *, count: int = 1, kind: str = "message.send", key: str = "k") -> list:
    async with runtime.engine.begin() as connection:
        await write_calls(
            connection,
            runtime.clock,
            runtime.new_id,
            [NewCall(lender.id, "vault.dispatch.sms", kind, runtime.new_id(), key) for _ in range(count)],
        )
    return [row.id for row in await call_rows(runtime)]


def call_messages(ids) -> list[Message]:
    return [Message(encode_call_message(call_id), b"k") for call_id in ids]


async def test_calls_are_claimed_and_handed_to_the_handler_of_their_kind_one_key_at_a_time(edge, runtime, lender):
    ids = await written(runtime, lender, count=3)
    seen: list[list] = []

    async def handler(runtime, _connections, calls: Sequence[Call]):
        seen.append([call.id for call in calls])
        async with runtime.engine.begin() as connection:
            await record_results(connection, runtime, {call: Done() for call in calls})

    await edge.make_calls("vault.dispatch.sms", call_messages([*ids, *ids]), {"message.send": handler})
    await edge.make_calls("vault.dispatch.sms", call_messages(ids), {"message.send": handler})
    assert sorted(seen) == sorted([[call_id] for call_id in ids])
    assert {row.state for row in await call_rows(runtime)} == {"done"}


async def test_calls_whose_handler_fails_come_again_later_and_those_it_finished_do_not(edge, runtime, lender):
    ids = await written(runtime, lender, count=2)

    async def handler(runtime, _connections, calls: Sequence[Call]):
        if calls[0].id == ids[0]:
            async with runtime.engine.begin() as connection:
                await record_results(connection, runtime, {calls[0]: Done()})
        raise AttributeError("a bug")

    await edge.make_calls("vault.dispatch.sms", call_messages(ids), {"message.send": handler})
    first, second = await call_rows(runtime)
    assert (first.state, second.state) == ("done", "pending")
    assert second.last_cause == "AttributeError: a bug"
    assert second.lease_until is None
    assert second.due_at > runtime.clock.now()


async def test_a_call_that_fails_at_its_last_try_is_given_up_with_a_case(edge, runtime, lender):
    (call_id,) = await written(runtime, lender)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET tries = 11"))
    await edge.make_calls("vault.dispatch.sms", call_messages([call_id]), {})
    (row,) = await call_rows(runtime)
    assert row.state == "given_up"
    async with runtime.engine.connect() as connection:
        (case,) = await list_open_cases(connection)
    assert (case.kind, case.partner_id) == ("call_given_up", lender.id)
    assert "no handler" in case.evidence["cause"]


def test_waves_keep_what_shares_a_key_apart():
    from uuid import UUID

    a, b, c, d = (UUID(int=n) for n in range(4))
    assert waves([(a, b"x"), (b, b"x"), (c, b"y"), (a, b"x"), (d, None)]) == [[a, c, d], [b]]
    assert waves([]) == []


def test_a_failure_that_cannot_be_recorded_stops_the_process():
    code = """
import asyncio
from vault_pipelines.streams.edge import Edge, Patience
class Message:
    key = None
    value = b"nonsense"
class Runtime:
    class chance:
        @staticmethod
        def uniform(a, b): return a
async def produce(*arguments):
    raise ConnectionError("no Kafka")
edge = Edge(produce, Patience(recording=0.3))
edge._runtime = Runtime()
asyncio.run(edge.apply("t", [Message()], None))
print("acknowledged")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70
    assert "acknowledged" not in done.stdout
    assert "cannot be recorded" in done.stdout


async def test_a_batch_cut_off_by_the_end_of_the_worker_leaves_its_deliveries_to_the_sweep(edge, runtime, store):
    ids = await store(b"{}", purpose="stk_result")
    started = asyncio.Event()

    async def handler(_runtime, _connections, _ids):
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(edge.apply(TOPIC, messages(runtime, ids), handler))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row.state for row in await rows_of(runtime)] == ["stored"]
