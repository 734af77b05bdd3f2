"""What a request and an answer are here, and the thin ASGI edge that carries them.

Raw ASGI on purpose: the sandbox must answer far faster than the product calls it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import orjson

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class BadBodyError(Exception):
    """The body is not the JSON it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in. Header names are lower case; of a repeated query key the last counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body with every fraction as Decimal, so that no amount passes through a float. Raises BadBodyError."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except ValueError as error:
            raise BadBodyError(str(error)) from error

    def json_object(self) -> dict[str, Any]:
        """The body, which must be a JSON object. Raises BadBodyError."""
        body = self.json()
        if not isinstance(body, dict):
            raise BadBodyError(f"expected a JSON object, got {type(body).__name__}")
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = "application/json"


@dataclass(frozen=True, slots=True)
class Dropped:
    """No answer: the connection breaks. ASGI cannot close a socket, so a body is promised that never comes."""


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """`body` as compact JSON."""
    return Answer(status, orjson.dumps(body), headers or {})


async def read_request(scope: Mapping[str, Any], receive: Receive) -> Request:
    """The whole request, body and all."""
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=b"".join(chunks),
    )


async def send_answer(answer: Answer | Dropped, send: Send) -> None:
    """Puts the answer on the wire, or breaks the connection."""
    if isinstance(answer, Dropped):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        return
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.content_type:
        headers.append((b"content-type", answer.content_type.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
