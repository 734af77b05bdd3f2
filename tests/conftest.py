"""What every test may ask for: a real PostgreSQL with a fresh, migrated database a test, a real Kafka broker, the sandbox."""

import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from local_stack.embedded_kafka import temporary_kafka
from local_stack.embedded_postgres import temporary_postgres
from local_stack.home import REPOSITORY, Home, prepare
from local_stack.kafka_jars import ensure_jars
from local_stack.topics import ensure_topics
from tests.database_urls import app_url
from vault_core.database import open_async_engine, open_owner_engine
from vault_core.http_pool import PooledClient
from vault_core.identifiers import id_maker
from vault_core.runtime import Runtime
from vault_core.schema import migrate
from vault_core.secrets import Sealer
from vault_core.settings import Pace


class StillClock:
    """A clock that stands where a test puts it. Starts at the present, so that ids fall into real partitions."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment

    def pass_time(self, **amount: float) -> None:
        self.moment += timedelta(**amount)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL of this session, up to its database name."""
    folder = Path(tempfile.mkdtemp(prefix="pv"))  # short on purpose: a socket path has a limit
    with temporary_postgres(folder) as place:
        yield place.url("postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The broker's program, fetched once into this clone's `.vault` and checked against the lock."""
    home = Home(REPOSITORY / ".vault")
    prepare(home)
    ensure_jars(home.jars, os.environ)
    return home.jars


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_jars: Path) -> Iterator[str]:
    """The address of a real Kafka broker of this session, with the product's topics."""
    folder = Path(tempfile.mkdtemp(prefix="pvk"))
    with temporary_kafka(folder, kafka_jars, os.environ) as place:
        ensure_topics(place.bootstrap)
        yield place.bootstrap
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated database that each test's own is copied from."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE template_vault"))
    owner = open_owner_engine(postgres_url.replace("/postgres?", "/template_vault?"))
    migrate(owner, now=datetime.now(UTC))
    owner.dispose()
    admin.dispose()
    return "template_vault"


@pytest.fixture
def owner_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of this test's fresh, migrated database, for the owner of its tables."""
    name = f"t{random.getrandbits(48):012x}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy"))
        connection.execute(
            text(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        )  # as the migration did; a copy is not given that
    yield postgres_url.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database_url(owner_url: str) -> str:
    """The URL of this test's fresh, migrated database, as the product's processes have it."""
    return app_url(owner_url)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def sealer() -> Sealer:
    return Sealer([("test", b"0123456789abcdef0123456789abcdef")])


@pytest.fixture
async def runtime(database_url: str, clock: StillClock, sealer: Sealer) -> AsyncIterator[Runtime]:
    """A Runtime on this test's own database, with a still clock and seeded chance."""
    engine = open_async_engine(database_url)
    async with PooledClient(timeout=10) as http:
        yield Runtime(
            engine=engine,
            clock=clock,
            new_id=id_maker(clock),
            chance=random.Random(1),
            sealer=sealer,
            http=http,
            pace=Pace(),
            public_url="http://127.0.0.1:8000",
        )
    await engine.dispose()


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    """The base URL of a real sandbox process of this session."""
    from tests.sandbox_process import start_sandbox

    with start_sandbox() as url:
        yield url


@pytest.fixture
def sandbox(sandbox_url: str) -> str:
    """The base URL of the sandbox, empty and without faults."""
    httpx.post(f"{sandbox_url}/control/reset", timeout=10, verify=False).raise_for_status()  # noqa: S501 - plain HTTP; saves loading CAs
    return sandbox_url
