"""A real worker process between a real broker and a real database."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from sqlalchemy import text

from tests.integration.streams.conftest import WorkerProcess, until
from vault_core.inbox.envelope import encode_envelope
from vault_core.outbox.calls import NewCall, write_calls
from vault_pipelines.streams.recorder import EFFECT

TOPIC = "sms.delivery-reports"


@pytest.fixture
async def producer(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all") as opened:
        yield opened


def count(runtime, condition: str, wanted: int) -> Callable[[], Awaitable[bool]]:
    async def counted() -> bool:
        async with runtime.engine.connect() as connection:
            found = await connection.execute(text(f"SELECT count(*) FROM inbound_events WHERE {condition}"))  # noqa: S608 - conditions of this file
            return found.scalar_one() == wanted

    return counted


def all_committed(bootstrap: str) -> Callable[[], Awaitable[bool]]:
    """Whether the workers' group has committed all that is in TOPIC: bad messages hold up nothing either."""

    async def committed() -> bool:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id="payment-vault", enable_auto_commit=False) as consumer:
            partitions = [TopicPartition(TOPIC, number) for number in range(4)]
            ends = await consumer.end_offsets(partitions)
            return ends == {partition: await consumer.committed(partition) or 0 for partition in partitions}

    return committed


def envelope(runtime, event_id: UUID) -> bytes:
    return encode_envelope(event_id, UUID(int=7), "sms_report", runtime.clock.now(), b"{}")


async def test_published_deliveries_are_applied_bad_messages_are_buried_and_the_worker_shows_life(
    runtime, store, worker, producer, kafka_bootstrap, tmp_path
):
    ids = await store(*[b"%d" % n for n in range(50)], purpose="sms_report")
    await producer.send_and_wait(TOPIC, b"nonsense", key=b"bad")
    await producer.send_and_wait(TOPIC, None, key=b"none")
    for event_id in [*ids, *ids[:10]]:
        await producer.send(TOPIC, envelope(runtime, event_id), key=event_id.hex.encode())
    await producer.flush()
    await until(count(runtime, f"state = 'processed' AND effect = '{EFFECT}'", 50), worker)
    async with AIOKafkaConsumer(
        "vault.dead-letters", bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", group_id=None
    ) as consumer:
        letters = {letter.key: letter for letter in [await asyncio.wait_for(consumer.getone(), 20) for _ in range(2)]}
    assert {key: letter.value for key, letter in letters.items()} == {b"bad": b"nonsense", b"none": None}
    assert dict(letters[b"bad"].headers)["topic"] == TOPIC.encode()
    await until(all_committed(kafka_bootstrap), worker)
    assert list((tmp_path / "run").glob("*.heartbeat"))
    assert not (tmp_path / "payment-vault-data").exists()


async def test_what_was_stored_but_never_published_is_found_by_the_sweep(runtime, store, worker):
    await store(b"{}", purpose="sms_report")
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE inbound_events SET next_sweep_at = received_at"))
    await until(count(runtime, "state = 'processed' AND sweeps >= 1", 1), worker)


async def test_a_killed_worker_that_comes_back_under_its_name_goes_on_where_it_was(runtime, store, worker, producer):
    first = await store(b"1", purpose="sms_report")
    await producer.send_and_wait(TOPIC, envelope(runtime, first[0]))
    await until(count(runtime, "state = 'processed'", 1), worker)
    worker.kill()
    more = await store(*[b"%d" % n for n in range(20)], purpose="sms_report")
    for event_id in more:
        await producer.send_and_wait(TOPIC, envelope(runtime, event_id))
    worker.start()
    await until(count(runtime, "state = 'processed'", 21), worker)


async def test_an_outbox_call_is_relayed_and_what_its_handler_said_is_in_the_row(runtime, worker, lender):
    async with runtime.engine.begin() as connection:
        await write_calls(
            connection,
            runtime.clock,
            runtime.new_id,
            [NewCall(lender.id, "vault.dispatch.sms", "no.such.kind", runtime.new_id(), "key")],
        )

    async def tried() -> bool:
        async with runtime.engine.connect() as connection:
            row = (await connection.execute(text("SELECT * FROM outbox"))).one()
        return row.tries == 1 and row.lease_until is None and "no handler" in (row.last_cause or "")

    await until(tried, worker)


async def test_a_worker_without_settings_ends_and_says_which_is_missing(kafka_bootstrap, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
    environment |= {"VAULT_KAFKA_BOOTSTRAP": kafka_bootstrap, "PYTHONPATH": str(Path.cwd())}
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        assert await asyncio.to_thread(worker.process.wait, 60) != 0
        assert "VAULT_DATABASE_URL is not set" in worker.log()
    finally:
        worker.process.kill()
