from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from vault_core.inbox.proof import STALE_AFTER, InboxProof, prove_inbox
from vault_core.runtime import Runtime

_STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes,
        parsed, state, cause, effect, next_sweep_at)
    VALUES (:id, :id, 'b2c_result', 'mpesa.b2c.results', :at, '127.0.0.1', 'application/json', '', 0, true, :state, :cause, :effect, :at)
    """
)


async def proof(runtime: Runtime) -> InboxProof:
    async with runtime.engine.connect() as connection:
        return await connection.run_sync(lambda sync: prove_inbox(sync, now=runtime.clock.now()))


async def store(
    runtime: Runtime, state: str, *, cause: str | None = None, effect: str | None = None, age: timedelta = timedelta(0)
) -> None:
    async with runtime.engine.begin() as connection:
        values = {"id": runtime.new_id(), "at": runtime.clock.now() - age, "state": state, "cause": cause, "effect": effect}
        await connection.execute(_STORE, values | {"partner_id": uuid4()})


async def test_an_inbox_whose_deliveries_have_effects_is_proved(runtime: Runtime) -> None:
    await store(runtime, "stored", age=STALE_AFTER)
    await store(runtime, "processed", effect="paid X1")
    await store(runtime, "exception", cause="not JSON")
    assert await proof(runtime) == InboxProof(deliveries=3, waiting=1, processed=1, exceptions=1, findings=())


@pytest.mark.parametrize(
    ("delivery", "check"),
    [
        ({"state": "stored", "age": STALE_AFTER + timedelta(seconds=1)}, "inbox_processed"),
        ({"state": "processed"}, "inbox_effects"),
        ({"state": "exception", "cause": ""}, "inbox_causes"),
    ],
)
async def test_a_delivery_that_went_nowhere_is_found(runtime: Runtime, delivery: dict[str, object], check: str) -> None:
    await store(runtime, **delivery)
    assert [finding.check for finding in (await proof(runtime)).findings] == [check]
