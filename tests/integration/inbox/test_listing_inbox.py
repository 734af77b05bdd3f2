import pytest
from sqlalchemy import text

from vault_core.errors import Conflict, NotFound
from vault_core.inbox.applying import set_aside
from vault_core.inbox.listing import list_deliveries, open_body, replay_deliveries, show_delivery
from vault_core.inbox.sweeping import take_unprocessed


async def audit_of(runtime):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text("SELECT * FROM audit_log ORDER BY id"))).all()


async def test_deliveries_are_listed_newest_first_and_by_state_and_purpose_and_page(runtime, store):
    confirmations = await store(b"1", b"2")
    (hook,) = await store(b"3", purpose="mifos_hook")
    await set_aside(runtime, confirmations[0], ValueError("bad"))
    async with runtime.engine.connect() as connection:
        assert {row.id for row in await list_deliveries(connection)} == {*confirmations, hook}
        (exception,) = await list_deliveries(connection, state="exception")
        assert (exception.id, exception.cause) == (confirmations[0], "ValueError: bad")
        assert [row.headers for row in await list_deliveries(connection, purpose="mifos_hook")] == [{"x-fineract-entity": "LOAN"}]
        assert await list_deliveries(connection, partner="nobody") == []
        newest = await list_deliveries(connection, most=2)
        assert len(newest) == 2
        assert len(await list_deliveries(connection, before=newest[-1].id)) == 1


async def test_an_unknown_delivery_is_not_found(runtime):
    async with runtime.engine.connect() as connection:
        with pytest.raises(NotFound):
            await show_delivery(connection, runtime.new_id())
    with pytest.raises(NotFound):
        await open_body(runtime, runtime.new_id(), actor="ops:x", reason="")
    with pytest.raises(NotFound):
        await replay_deliveries(runtime, [runtime.new_id()], actor="ops:x", reason="")


async def test_opening_a_body_leaves_an_audit_entry_without_the_body(runtime, store):
    (event_id,) = await store(b'{"MSISDN":"254712345678"}')
    assert await open_body(runtime, event_id, actor="ops:amina", reason="complaint 7") == b'{"MSISDN":"254712345678"}'
    (act,) = await audit_of(runtime)
    assert (act.actor, act.act, act.reason) == ("ops:amina", "inbox.body_shown", "complaint 7")
    assert "254712345678" not in str(act)


async def test_a_replayed_exception_is_due_at_once_and_audited(runtime, store):
    (event_id,) = await store(b"{}")
    await set_aside(runtime, event_id, ValueError("bad"))
    assert await replay_deliveries(runtime, [event_id, event_id], actor="ops:amina", reason="mended") == 1
    assert [message.event_id for message in await take_unprocessed(runtime)] == [event_id]
    (act,) = await audit_of(runtime)
    assert (act.act, act.before) == ("inbox.replayed", {"state": "exception", "cause": "ValueError: bad"})


async def test_a_processed_delivery_is_not_replayed_nor_are_those_named_with_it(runtime, store):
    ids = await store(b"1", b"2")
    await set_aside(runtime, ids[0], ValueError("bad"))
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE inbound_events SET state = 'processed' WHERE id = :id"), {"id": ids[1]})
    with pytest.raises(Conflict):
        await replay_deliveries(runtime, ids, actor="ops:x", reason="")
    async with runtime.engine.connect() as connection:
        assert (await show_delivery(connection, ids[0])).state == "exception"
    assert await audit_of(runtime) == []
