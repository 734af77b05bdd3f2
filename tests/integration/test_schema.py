from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from vault_core.database import in_transaction, open_owner_engine
from vault_core.runtime import Runtime
from vault_core.schema import migrate


async def test_processes_act_as_the_application_role(runtime: Runtime) -> None:
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_user"))).scalar_one() == "vault_app"


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    owner = open_owner_engine(database_url)
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
