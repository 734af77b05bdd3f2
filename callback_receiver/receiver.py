"""One request: whose is it, take its bytes, store, answer. No business rules (DESIGN.md section 3)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from callback_receiver import hook_signature
from callback_receiver.batch_writer import BatchWriter
from callback_receiver.metrics import Metrics
from callback_receiver.paths import parse_callback_path
from callback_receiver.receiver_settings import ReceiverSettings
from callback_receiver.replies import (
    ACKNOWLEDGEMENT_OF,
    COME_BACK,
    NOT_FOUND,
    NOT_SIGNED,
    PING,
    TOO_LARGE,
    VALIDATION_REPLY,
    WRONG_METHOD,
    Reply,
    make_reply,
)
from callback_receiver.source_address import source_address
from callback_receiver.token_directory import TokenDirectory, TokenOwner
from callback_receiver.validation_desk import ValidationDesk
from vault_core.clock import Clock
from vault_core.errors import Unreachable
from vault_core.identifiers import IdMaker
from vault_core.inbox.receiving import Arrival

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# X-Fineract-API-Key is left out on purpose: it is a secret, and says nothing about the event.
_KEPT_HEADERS = {
    b"x-fineract-entity",
    b"x-fineract-action",
    b"x-fineract-endpoint",
    b"fineract-platform-tenantid",
    b"x-mifos-entity",
    b"x-mifos-action",
    b"x-mifos-platform-tenantid",
}
_LONGEST_TEXT = 300
_READY_WITHIN = 2.0


class Disconnected(Exception):
    """The client went away before its body was complete."""


class TooLarge(Exception):
    """The body is over the cap."""


class Receiver:
    """Answers requests. Built by the composition root in callback_receiver/app.py."""

    def __init__(
        self,
        *,
        directory: TokenDirectory,
        writer: BatchWriter,
        desk: ValidationDesk,
        metrics: Metrics,
        settings: ReceiverSettings,
        engine: AsyncEngine,
        clock: Clock,
        new_id: IdMaker,
    ) -> None:
        self._directory = directory
        self._writer = writer
        self._desk = desk
        self._metrics = metrics
        self._settings = settings
        self._engine = engine
        self._clock = clock
        self._new_id = new_id

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; 2xx to a delivery only when it is on disk."""
        try:
            reply = await self._reply(scope, receive)
        except Disconnected:
            self._metrics.refused["disconnected"].inc()
            return
        await send(reply.start)
        await send(reply.body)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        path = parse_callback_path(scope["path"])
        if path is None:
            return await self._reply_to_operator(scope)
        owner = self._directory.known(path.token)
        if owner is None:
            try:
                owner = await self._directory.find(path.token)
            except Unreachable:
                return self._refuse("not_stored", COME_BACK)
            if owner is None:
                return self._refuse("unknown_token", NOT_FOUND)
        if scope["method"] == "POST":
            return await self._take(owner, path.reference, scope, receive)
        if scope["method"] in {"GET", "HEAD"}:  # Mifos X asks once when a hook is made (reference/fineract.md section 7)
            return PING
        return self._refuse("wrong_method", WRONG_METHOD)

    async def _take(self, owner: TokenOwner, reference: str | None, scope: Scope, receive: Receive) -> Reply:
        headers = scope["headers"]
        content_type, forwarded_for, kept = _read_headers(headers)
        try:
            body = await _read_body(receive, self._settings.body_cap)
        except TooLarge:
            return self._refuse("too_large", TOO_LARGE)
        if owner.hook_secret is not None and (fault := self._fault_of(owner.hook_secret, headers, body)) is not None:
            return self._refuse(fault, NOT_SIGNED)
        client = scope.get("client")
        parsed = _is_json_object(body)
        arrival = Arrival(
            id=self._new_id(),
            partner_id=owner.partner_id,
            purpose=owner.purpose,
            received_at=self._clock.now(),
            source_ip=source_address(client[0] if client else "", forwarded_for, self._settings.trusted_proxies),
            content_type=content_type,
            path_reference=reference,
            headers=kept,
            body=body,
            parsed=parsed,
        )
        stored = self._writer.submit(arrival)
        if stored is None:
            return self._refuse("overload", COME_BACK)
        if not await stored:
            return self._refuse("not_stored", COME_BACK)
        self._metrics.accepted[owner.purpose].inc()
        if not parsed:
            self._metrics.unparsed.inc()
        if owner.purpose == "c2b_validation":
            return VALIDATION_REPLY[(await self._desk.answer(arrival)).code]
        return ACKNOWLEDGEMENT_OF[owner.purpose]

    def _fault_of(self, secret: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> hook_signature.Fault | None:
        timestamp, signature = _only(headers, hook_signature.TIMESTAMP), _only(headers, hook_signature.SIGNATURE)
        return hook_signature.find_fault(secret, timestamp=timestamp, signature=signature, body=body, now=self._clock.now())

    async def _reply_to_operator(self, scope: Scope) -> Reply:
        path = scope["path"]
        if path == "/healthz":
            return make_reply(200, b'{"alive":true}')
        if path == "/readyz":
            return await self._readiness()
        if path == "/metrics":
            return make_reply(200, self._metrics.text(), content_type=b"text/plain; version=0.0.4; charset=utf-8")
        return self._refuse("unknown_path", NOT_FOUND)

    async def _readiness(self) -> Reply:
        try:
            async with asyncio.timeout(_READY_WITHIN), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return make_reply(503, b'{"ready":false,"cause":"PostgreSQL does not answer"}')
        return make_reply(200, b'{"ready":true}')

    def _refuse(self, reason: str, reply: Reply) -> Reply:
        self._metrics.refused[reason].inc()
        return reply


def _read_headers(headers: list[tuple[bytes, bytes]]) -> tuple[str, str, dict[str, str]]:
    content_type = forwarded_for = ""
    kept: dict[str, str] = {}
    for name, value in headers:
        if name == b"content-type":
            content_type = _clean(value)
        elif name == b"x-forwarded-for":
            forwarded_for = f"{forwarded_for},{_clean(value)}" if forwarded_for else _clean(value)
        elif name in _KEPT_HEADERS:
            kept[name.decode()] = _clean(value)
    return content_type, forwarded_for, kept


def _only(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    """The value of a header that is there exactly once."""
    values = [value for name, value in headers if name == wanted]
    return values[0] if len(values) == 1 else None


def _clean(value: bytes) -> str:
    return value[:_LONGEST_TEXT].decode("latin-1").replace("\0", "")


async def _read_body(receive: Receive, cap: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is over `cap` bytes, Disconnected if it ends early."""
    message = await receive()
    parts = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > cap:
            raise TooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else bytes(part)
        message = await receive()


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
