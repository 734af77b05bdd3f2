import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from local_stack.home import Home, remove
from local_stack.kafka_jars import Jar
from vault_core.errors import ConfigurationError


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pvt"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def short_home(short_folder: Path) -> Iterator[Home]:
    """A home that is not made yet."""
    home = Home(short_folder / "home")
    yield home
    with suppress(ConfigurationError):  # one that a test has broken: its folder goes with the test's
        remove(home)


@pytest.fixture
def jar_server() -> Iterator[Callable[[bytes], tuple[Jar, str]]]:
    """Makes a Maven repository that serves the given bytes for a jar that is locked to other bytes."""
    servers: list[ThreadingHTTPServer] = []

    def serve(body: bytes) -> tuple[Jar, str]:
        class Repository(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = hashlib.sha1(body, usedforsecurity=False).hexdigest().encode() if self.path.endswith(".sha1") else body
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Repository)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        jar = Jar("org.example", "broker", "1", hashlib.sha256(b"the broker").hexdigest())
        return jar, f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


_LENDER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
                          c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (gen_random_uuid(), 'alpha', 'Alpha', 'http://127.0.0.1:9/', 'default', 'u', 'http://127.0.0.1:9', 'i', '600001',
            '600002', 'http://127.0.0.1:9', 'u', 'ALPHA', now(), now())
    RETURNING id
    """
)
_CREDENTIAL = text("INSERT INTO partner_credentials VALUES (:id, 'mifos_password', '\\x01', now())")


@pytest.fixture
def add_sealed_lender() -> Callable[[str], None]:
    """Adds a partner with one sealed credential to the database of a URL."""

    def add(database_url: str) -> None:
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(_CREDENTIAL, {"id": connection.execute(_LENDER).scalar_one()})
        engine.dispose()

    return add
