"""The HTTP side of Mifos X: base address, login, tenant, CA, deadlines, and bounded retry of reads."""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from typing import Any

import httpx
import stamina

from vault_core.clients.http_exchange import Answer, Exchange, exchange
from vault_core.clients.json_reading import read_json
from vault_core.clients.mifos_errors import GATEWAY, read_failure
from vault_core.clients.mifos_values import MifosLogin
from vault_core.errors import ConfigurationError, InvalidInput, NotUnderstood, RemoteBusy, Unreachable
from vault_core.http_pool import PooledClient

_OK, _SERVER_FAULT = 200, 500
_ATTEMPTS = 3
_FIRST_WAIT = 0.2  # seconds
_MAY_PASS = (Unreachable, RemoteBusy)


class MifosSession:
    """One login to one server. Sends what it is told, with nobody else's cookies."""

    def __init__(self, login: MifosLogin, http: httpx.AsyncClient, *, read_timeout: float, write_timeout: float) -> None:
        self.base = login.url.rstrip("/")
        self._place = _without_user(self.base)
        self._own = _client_with_ca(login.ca_pem) if login.ca_pem else None
        self._http = self._own or http
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        key = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {key}",
            "Fineract-Platform-TenantId": login.tenant,
            "Accept": "application/json",
        }

    async def aclose(self) -> None:
        """Closes the connections made for a CA of its own."""
        if self._own is not None:
            await self._own.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        base: str | None = None,
    ) -> Exchange:
        """One exchange, never repeated. `path` begins with "/" and stands under `base`; an empty key is not sent."""
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        timeout = self._read_timeout if method == "GET" else self._write_timeout
        return await exchange(
            self._http, method, f"{base or self.base}{path}", timeout=timeout, headers=headers, params=params, content=content
        )

    async def answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        base: str | None = None,
    ) -> Answer:
        """One exchange that must be answered. Raises Unreachable; the status is the caller's to judge."""
        done = await self.send(method, path, params=params, body=body, idempotency_key=idempotency_key, base=base)
        if isinstance(done, Answer):
            return done
        raise Unreachable(f"Mifos X at {self._place}: {done.cause}")

    async def reach(self, *paths: str) -> None:
        """GETs, each once, of which only counts that the server itself answers one. Raises Unreachable.

        One that fails inside at all of them (its database is away, say) is not there either.
        """
        for path in paths:
            answer = await self.answer("GET", path)
            if answer.status in GATEWAY:
                raise Unreachable(f"Mifos X at {self._place}: a gateway before it answers HTTP {answer.status}")
            if answer.status < _SERVER_FAULT:
                return
        raise Unreachable(f"Mifos X at {self._place} fails inside: HTTP {answer.status}")

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON of a GET, tried up to three times while the server is unreachable or busy.

        Raises LoginRefused, RemoteRefusal, NotFound, NotUnderstood, Unreachable or RemoteBusy.
        """
        try:  # almost always the only one: a retry context costs as much as the exchange
            return await self._get(path, params)
        except _MAY_PASS:
            await asyncio.sleep(_FIRST_WAIT)
        async for attempt in stamina.retry_context(
            on=_MAY_PASS,
            attempts=_ATTEMPTS - 1,
            timeout=None,
            wait_initial=2 * _FIRST_WAIT,
            wait_max=2.0,
            wait_jitter=_FIRST_WAIT,
        ):
            with attempt:
                return await self._get(path, params)
        raise AssertionError("a retry context either returns or raises")

    async def _get(self, path: str, params: Mapping[str, str] | None) -> Any:
        return self.value_of(await self.answer("GET", path, params=params), f"GET {path}")

    async def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of a POST that moves no money, sent once. Raises like `get`."""
        return self.value_of(await self.answer("POST", path, body=body), f"POST {path}")

    async def change(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of a PUT that moves no money, sent once. Raises like `get`."""
        return self.value_of(await self.answer("PUT", path, body=body), f"PUT {path}")

    def value_of(self, answer: Answer, what: str) -> Any:
        """The JSON of a 200, or the error that the answer stands for."""
        if answer.status != _OK:
            raise read_failure(answer.status, answer.headers, answer.body, what)
        try:
            return read_json(answer.body, what)
        except InvalidInput as error:
            kind = answer.headers.get("content-type", "no content type")
            raise NotUnderstood(
                f"{what}: the server at {self._place} answered 200 with {kind}, not JSON; is this the address of a Mifos X?",
                code="not_json",
                status=answer.status,
            ) from error


def _without_user(url: str) -> str:
    """The address as it may stand in a message. Raises ConfigurationError for what is no URL."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b""))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"the address of Mifos X is not a URL: {error}") from error


def _client_with_ca(ca_pem: str) -> PooledClient:
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(f"the CA certificate for Mifos X is not PEM: {error}") from error
    return PooledClient(certificates=context)
