"""A real receiver process on a test's own database."""

import base64
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.database_urls import app_url
from vault_core.secrets import Sealer

PURPOSES = (
    "c2b_validation",
    "c2b_confirmation",
    "b2c_result",
    "b2c_timeout",
    "stk_result",
    "query_result",
    "query_timeout",
    "mifos_hook",
    "sms_report",
)
KEY = b"0123456789abcdef0123456789abcdef"  # of the fixture `sealer`
PARTNER = UUID("01890000-0000-7000-8000-000000000001")
_ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
                          c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (:id, 'alpha', 'Alpha', 'http://127.0.0.1:1/', 'default', 'u', 'http://127.0.0.1:1', 'i', '600001', '600002',
            'http://127.0.0.1:1', 'u', 'ALPHA', now(), now())
    """
)
_ADD_TOKEN = text("INSERT INTO callback_tokens (token_hash, partner_id, purpose) VALUES (:hash, :partner, :purpose)")


class ReceiverProcess:
    """A granian process serving the receiver; its log is a file."""

    def __init__(
        self, environment: dict[str, str], log_file: Path, application: str = "callback_receiver.app:application"
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = log_file
        self.environment = environment
        self.application = application
        self.start()

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "granian",
                    "--interface",
                    "asgi",
                    "--loop",
                    "uvloop",
                    "--no-ws",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.port),
                    self.application,
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
            except httpx.TransportError:
                assert self.process.poll() is None, self.log_file.read_text()
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self.log_file.read_text())

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait(5)


def add_partner_with_tokens(database_url: str, sealer: Sealer) -> dict[str, str]:
    """Adds the partner PARTNER and a token for each purpose; returns the tokens."""
    tokens = {purpose: sealer.callback_token(f"{PARTNER}:{purpose}:1") for purpose in PURPOSES}
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(_ADD_PARTNER, {"id": PARTNER})
        for purpose, token in tokens.items():
            connection.execute(_ADD_TOKEN, {"hash": sealer.token_hash(token), "partner": PARTNER, "purpose": purpose})
    engine.dispose()
    return tokens


@pytest.fixture(scope="module")
def shared_owner_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The database of a module's shared receiver, for its owner."""
    name = f"r{random.getrandbits(48):012x}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy"))
    yield postgres_url.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="module")
def shared_url(shared_owner_url: str) -> str:
    """The database of a module's shared receiver, for the receiver."""
    return app_url(shared_owner_url)


@pytest.fixture(scope="module")
def tokens(shared_url: str) -> dict[str, str]:
    return add_partner_with_tokens(shared_url, Sealer([("test", KEY)]))


@pytest.fixture(scope="module")
def shared_receiver(start_receiver: Callable[..., ReceiverProcess], shared_url: str) -> ReceiverProcess:
    return start_receiver(shared_url)


@pytest.fixture
def receiver(shared_receiver: ReceiverProcess, inbox_url: str) -> ReceiverProcess:
    """The shared receiver, with nothing in its inbox."""
    assert inbox_url
    return shared_receiver


@pytest.fixture
def inbox_url(shared_url: str, shared_owner_url: str) -> str:
    """The shared database with an empty inbox."""
    engine = create_engine(shared_owner_url)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE inbound_events"))
    engine.dispose()
    return shared_url


@pytest.fixture(scope="module")
def start_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ReceiverProcess]]:
    """Starts receivers on a database URL; all are stopped at the end."""
    started: list[ReceiverProcess] = []
    folder = tmp_path_factory.mktemp("receivers")

    def start(database_url: str, *, kafka: str = "127.0.0.1:1", **settings: str) -> ReceiverProcess:
        environment = {
            **os.environ,
            "VAULT_DATABASE_URL": database_url,
            "VAULT_KAFKA_BOOTSTRAP": kafka,
            "VAULT_MASTER_KEY": f"test:{base64.b64encode(KEY).decode()}",
            **settings,
        }
        process = ReceiverProcess(environment, folder / f"receiver{random.getrandbits(24)}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()
