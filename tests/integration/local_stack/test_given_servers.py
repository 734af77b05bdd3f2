import random

import pytest
from sqlalchemy import create_engine, text

from local_stack.parts import GIVEN, look
from tests.database_urls import app_url
from tests.private_stack import DAGSTER, start_private_stack
from vault_core.errors import ConfigurationError


@pytest.fixture
def empty_database(postgres_url: str):
    name = f"given{random.getrandbits(40):010x}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_url.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}_dagster WITH (FORCE)"))
    admin.dispose()


def test_servers_of_the_user_replace_the_embedded_ones(empty_database: str, kafka_bootstrap: str) -> None:
    with start_private_stack(
        without=DAGSTER,
        VAULT_DATABASE_URL=app_url(empty_database),
        VAULT_OWNER_DATABASE_URL=empty_database,
        VAULT_KAFKA_BOOTSTRAP=kafka_bootstrap,
    ) as running:
        parts = {part.name: part for part in look(running.plan)}
        assert (parts["postgres"].state, parts["kafka"].state) == (GIVEN, GIVEN)
        assert all(parts[name].healthy for name in ("postgres", "kafka", "receiver", "worker-1"))
        assert not running.home.postgres.exists()
        assert running.environment["VAULT_DATABASE_URL"] == app_url(empty_database)
        assert [
            name for name, value in running.environment.items() if value == empty_database
        ] == []  # no process has the owner's
        engine = create_engine(empty_database)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM partners")).scalar_one() == 0
            dagsters = text("SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database() || '_dagster'")
            assert (
                connection.execute(dagsters).scalar_one() == "vault_app"
            )  # a database of its own: nothing of the ledger is there
        engine.dispose()


def test_a_lost_key_is_not_replaced_when_the_users_database_holds_sealed_credentials(
    database_url: str, owner_url: str, add_sealed_lender
) -> None:
    add_sealed_lender(database_url)
    settings = {"VAULT_DATABASE_URL": database_url, "VAULT_OWNER_DATABASE_URL": owner_url, "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    with pytest.raises(ConfigurationError, match=r"master\.key is missing"), start_private_stack(without=DAGSTER, **settings):
        pass
