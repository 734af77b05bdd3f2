import asyncio

import orjson
from sqlalchemy import text

from vault_core.inbox.applying import set_aside
from vault_core.inbox.envelope import event_id_of
from vault_core.inbox.sweeping import take_unprocessed
from vault_core.secrets import Sealer


async def test_nothing_is_swept_before_its_time(runtime, store, clock):
    await store(b"{}")
    clock.pass_time(seconds=29)
    assert await take_unprocessed(runtime) == []


async def test_what_stays_unprocessed_is_offered_again_after_waits_that_double(runtime, store, clock):
    (event_id,) = await store(b'{"a":1}', purpose="b2c_result", reference="77")
    waits = []
    waited = 0
    while len(waits) < 4:
        clock.pass_time(seconds=10)
        waited += 10
        for message in await take_unprocessed(runtime):
            assert (message.event_id, message.topic, message.key) == (event_id, "mpesa.b2c.results", "77")
            assert event_id_of(message.value) == event_id
            assert orjson.loads(message.value)["body"] == '{"a":1}'
            waits.append(waited)
            waited = 0
    assert waits == [30, 60, 120, 240]


async def test_the_wait_between_sweeps_never_exceeds_an_hour(runtime, store, clock):
    await store(b"{}")
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE inbound_events SET sweeps = 60"))
    clock.pass_time(seconds=31)
    assert len(await take_unprocessed(runtime)) == 1
    clock.pass_time(seconds=3600)
    assert len(await take_unprocessed(runtime)) == 1


async def test_exceptions_and_processed_deliveries_are_not_swept(runtime, store, clock):
    ids = await store(b"1", b"2")
    await set_aside(runtime, ids[0], ValueError("bad"))
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE inbound_events SET state = 'processed' WHERE id = :id"), {"id": ids[1]})
    clock.pass_time(days=2)
    assert await take_unprocessed(runtime) == []


async def test_two_sweeps_at_once_share_the_work(runtime, store, clock):
    ids = await store(*[b"%d" % n for n in range(100)])
    clock.pass_time(seconds=31)
    both = await asyncio.gather(take_unprocessed(runtime), take_unprocessed(runtime))
    assert sorted(message.event_id for part in both for message in part) == ids


async def test_a_delivery_that_is_under_way_is_not_swept(runtime, store, clock):
    (event_id,) = await store(b"{}")
    clock.pass_time(seconds=31)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("SELECT 1 FROM inbound_events WHERE id = :id FOR UPDATE"), {"id": event_id})
        assert await take_unprocessed(runtime) == []
    assert len(await take_unprocessed(runtime)) == 1


async def test_a_body_that_does_not_open_does_not_stop_the_sweep(runtime, store, clock):
    import dataclasses

    ids = await store(b"1", b"2")
    clock.pass_time(seconds=31)
    other = dataclasses.replace(runtime, sealer=Sealer([("other", b"x" * 32)]))
    assert sorted(message.event_id for message in await take_unprocessed(other)) == ids


async def test_bytes_that_are_no_text_travel_too(runtime, store, clock):
    await store(b"\xff\x00")
    clock.pass_time(seconds=31)
    (message,) = await take_unprocessed(runtime)
    assert orjson.loads(message.value)["body_base64"] == "/wA="
