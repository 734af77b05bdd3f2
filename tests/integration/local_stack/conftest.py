import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
