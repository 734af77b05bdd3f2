"""A client for the sandbox under test, and a listener that keeps what the sandbox posts."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Posted:
    """One request the listener got."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Listener:
    """A real HTTP server. `answer` is what it says: (status, body), or a function of the request's path and body."""

    def __init__(self) -> None:
        self.posts: list[Posted] = []
        self.answer: Callable[[str, Any], tuple[int, bytes]] = lambda _path, _body: (
            200,
            b'{"ResultCode":0,"ResultDesc":"Accepted"}',
        )
        self._came = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.take(self)

            def do_GET(self) -> None:
                listener.take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        content = request.rfile.read(int(request.headers.get("content-length", 0)))
        body = json.loads(content) if content else None
        with self._came:
            self.posts.append(Posted(request.command, request.path, {k.lower(): v for k, v in request.headers.items()}, body))
            self._came.notify_all()
        status, answer = self.answer(request.path, body)
        request.send_response(status)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def wait(self, count: int, path: str = "/") -> list[Posted]:
        """What came under `path`, once there are `count`; fails when they do not come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.at(path)) >= count, PATIENCE_SECONDS), f"only {self.at(path)} came"
        return self.at(path)

    def at(self, path: str) -> list[Posted]:
        return [post for post in self.posts if post.path.startswith(path)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


class Driver:
    """Speaks to the sandbox: its levers, its M-Pesa, its hosts and its gateway."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url, self.http = url, http

    def control(self, path: str, body: Any) -> Any:
        answer = self.http.post(f"{self.url}/control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def setup(self, **world: Any) -> None:
        self.control("setup", world)

    def truth(self) -> Any:
        return self.http.get(f"{self.url}/truth").json()

    def wait_until_quiet(self) -> None:
        """Returns once nothing is left to be told."""
        waiting = threading.Event()
        for _ in range(PATIENCE_SECONDS * 50):
            if self.http.get(f"{self.url}/control/quiet").json()["pending"] == 0:
                return
            waiting.wait(0.02)
        raise AssertionError("the sandbox still has things to tell")

    def token(self) -> dict[str, str]:
        answer = self.http.get(f"{self.url}/daraja/oauth/v1/generate?grant_type=client_credentials", auth=("k", "s"))
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def daraja(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.post(f"{self.url}/daraja/mpesa/{path}", json=body, headers=headers or self.token())

    def mifos(
        self, method: str, path: str, body: Any = None, *, host: str = "alpha", user: str = "mifos", key: str | None = None
    ) -> httpx.Response:
        headers = {"Fineract-Platform-TenantId": "default"} | ({} if key is None else {"Idempotency-Key": key})
        return self.http.request(
            method,
            f"{self.url}/mifos/{host}/fineract-provider/api/v1{path}",
            json=body,
            headers=headers,
            auth=(user, "password"),
        )


@pytest.fixture
def driver(sandbox: str) -> Iterator[Driver]:
    with httpx.Client(timeout=PATIENCE_SECONDS, verify=False) as http:  # noqa: S501 - plain HTTP; saves loading CAs
        yield Driver(sandbox, http)
