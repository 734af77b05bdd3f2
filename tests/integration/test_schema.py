from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from vault_core.database import in_transaction, open_owner_engine
from vault_core.partitions import cut_ahead
from vault_core.runtime import Runtime
from vault_core.schema import migrate


def test_migrating_twice_changes_nothing(owner_url: str) -> None:
    owner = open_owner_engine(owner_url)
    migrate(owner, now=datetime.now(UTC))
    migrate(owner, now=datetime.now(UTC))
    owner.dispose()


async def test_a_transaction_that_fails_leaves_nothing(runtime: Runtime) -> None:
    async def work(connection):
        await connection.execute(
            text("INSERT INTO audit_log (id, at, actor, act, subject) VALUES (uuidv7(), now(), 'a', 'b', 'c')")
        )
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await in_transaction(runtime.engine, work)
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM audit_log"))).scalar_one() == 0


async def partitions_of(runtime: Runtime, parent: str) -> set[str]:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:parent AS regclass)"),
            {"parent": parent},
        )
        return set(rows.scalars())


async def test_a_worker_cuts_the_partitions_of_the_weeks_to_come_once(runtime: Runtime, clock) -> None:
    clock.pass_time(days=40)

    async def cut() -> int:
        async with runtime.engine.begin() as connection:
            return await cut_ahead(connection, now=clock.now())

    assert await cut() > 0
    assert await cut() == 0
    assert f"inbound_events_{clock.now() + timedelta(days=13):%Y%m%d}" in await partitions_of(runtime, "inbound_events")


async def test_the_application_may_write_no_new_ledger_partition_directly(runtime: Runtime, clock) -> None:
    clock.pass_time(days=200)
    async with runtime.engine.begin() as connection:
        await cut_ahead(connection, now=clock.now())
        rights = await connection.execute(
            text("SELECT has_table_privilege('vault_app', :name, 'INSERT')"), {"name": f"ledger_entries_{clock.now():%Y%m}"}
        )
        assert rights.scalar_one() is False


async def test_rows_that_came_before_their_partition_stay_and_do_not_stop_the_others(runtime: Runtime, clock) -> None:
    clock.pass_time(days=300)
    early = runtime.new_id()
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                """
                INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes,
                                            parsed, next_sweep_at)
                VALUES (:id, :id, 'b2c_result', 't', :now, '', '', '', 0, false, :now)
                """
            ),
            {"id": early, "now": clock.now()},
        )
        assert await cut_ahead(connection, now=clock.now()) > 0
        kept = await connection.execute(text("SELECT count(*) FROM inbound_events_default WHERE id = :id"), {"id": early})
        assert kept.scalar_one() == 1
    partitions = await partitions_of(runtime, "inbound_events")
    assert f"inbound_events_{clock.now():%Y%m%d}" not in partitions
    assert f"inbound_events_{clock.now() + timedelta(days=1):%Y%m%d}" in partitions


async def test_the_application_can_cut_nothing_else(runtime: Runtime) -> None:
    for parent, name in (("partners", "partners_202601"), ("inbound_events", "inbound_events_x; DROP TABLE partners")):
        with pytest.raises(DBAPIError, match="is no partition of ours"):
            async with runtime.engine.begin() as connection:
                await connection.execute(
                    text("SELECT cut_partition(:parent, :name, uuidv7(), uuidv7())"), {"parent": parent, "name": name}
                )
