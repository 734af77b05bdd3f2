"""Connections to the outside: aiohttp's, which cost half the processor time of httpx's own, under httpx's interface.

An exchange that is made whole (vault_core/clients/http_exchange.py) passes httpx by: its requests and answers as objects cost
twice what the connection does.

What a failure proves stays what httpx says of it (vault_core/clients/http_exchange.py rests on that): a request that never left
is a ConnectError, ConnectTimeout, PoolTimeout, UnsupportedProtocol or LocalProtocolError; after any other error the other side
may have done what was asked. Nothing is repeated, but for a read whose kept connection turns out to have been closed.
"""

import asyncio
import re
import select
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import aiohttp
import httpx
import yarl
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from vault_core.fault_points import is_armed, place_of, reach
from vault_core.http_proxies import Proxies

_MOST_CONNECTIONS = 256
_KEPT_SECONDS = 5.0  # between two requests; servers close idle connections, and a request on a closed one proves nothing
_UNWRITABLE = re.compile("[\r\n\0\ud800-\udfff]")
# What httpx has set already, or left out on purpose.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer that was read whole. Header names are lower case. `body` None: it is larger than was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class PooledTransport(httpx.AsyncBaseTransport):
    """Sends each request on a connection of one pool. For one event loop; opened by the first request."""

    def __init__(self, certificates: ssl.SSLContext | None = None) -> None:
        """Believes `certificates`, None: the machine's. Raises ConfigurationError for a proxy that cannot be used."""
        self._session: aiohttp.ClientSession | None = None
        self._own_certificates = certificates
        self._proxies = Proxies.of_environment()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange, up to the head of its answer; the connection is free when the body is read or closed."""
        waits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(connect=waits.get("pool"), sock_connect=waits.get("connect"), sock_read=waits.get("read"))
        headers = request.headers.multi_items()
        _refuse_unwritable(headers)
        place = yarl.URL(str(request.url), encoded=True)
        with _errors_of_httpx():
            answer = await self._opened().request(
                request.method,
                place,
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=timeout,
                ssl=self._certificates if place.scheme == "https" else True,
                **self._through(place, headers),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
        content: bytes | None,
        waits: httpx.Timeout,
        largest: int,
    ) -> Fetched:
        """One exchange, whole. Raises what httpx would, InvalidURL too."""
        try:
            place = yarl.URL(url)
        except ValueError as error:
            raise httpx.InvalidURL(str(error)) from error
        if params:
            place = yarl.URL(f"{place}?{urlencode(params)}", encoded=True)
        _refuse_unwritable(headers.items())
        timeout = aiohttp.ClientTimeout(connect=waits.pool, sock_connect=waits.connect, sock_read=waits.read)
        with _errors_of_httpx():
            answer = await self._opened().request(
                method,
                place,
                data=content or None,
                allow_redirects=False,
                timeout=timeout,
                ssl=self._certificates if place.scheme == "https" else True,
                auto_decompress=True,
                **self._through(place, [*headers.items()]),
            )
            try:
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > largest:
                        return Fetched(answer.status, {}, None)
            finally:
                _give_back(answer)
        return Fetched(answer.status, {name.lower(): value for name, value in answer.headers.items()}, bytes(body))

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _through(self, place: yarl.URL, headers: list[tuple[str, str]]) -> dict[str, Any]:
        """The headers, and the proxy if there is one: which is told who we are by the request, or by that for a tunnel."""
        proxy = self._proxies.to(place)
        if proxy is None:
            return {"headers": headers}
        if place.scheme == "https":
            return {"headers": headers, "proxy": proxy.url, "proxy_headers": proxy.headers}
        return {"headers": [*headers, *proxy.headers.items()], "proxy": proxy.url}

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        # The machine's are slow to read, so once, and not before they are needed.
        return self._own_certificates or httpx.create_ssl_context()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=_MOST_CONNECTIONS, keepalive_timeout=_KEPT_SECONDS),
                request_class=_Request,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does it
                skip_auto_headers=_NOT_ADDED,
            )
        return self._session


class PooledClient(httpx.AsyncClient):
    """httpx's client on one pool of connections, at which exchanges can also be made without httpx."""

    def __init__(self, *, timeout: float | httpx.Timeout = 10.0, certificates: ssl.SSLContext | None = None) -> None:
        self.pool = PooledTransport(certificates)
        # A library-default agent is refused by some gateways.
        self.agent = {"User-Agent": "payment-vault"}
        super().__init__(transport=self.pool, headers=self.agent, timeout=timeout, follow_redirects=False)


class _Connector(aiohttp.TCPConnector):
    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """A kept connection on which nothing has come since its last answer.

        What came there unasked (an answer told twice, the 408 of a gateway) would be taken for the answer of the next request.
        """
        while (connection := await super()._get(key, traces)) is not None and not _is_silent(connection):
            connection.close()
        return connection


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Writes the request; the moment at which it has left whole, and is not answered, is a fault point."""
        answer = await super().send(conn)
        if is_armed():
            while not _has_left(answer, conn):  # noqa: ASYNC110 - aiohttp does not tell when
                await asyncio.sleep(0)
            reach("after send", place_of(self.method, self.url.path))
        return answer


def _has_left(answer: aiohttp.ClientResponse, connection: Connection) -> bool:
    protocol = connection.protocol
    if protocol is None or protocol.transport is None or protocol.transport.is_closing():
        return True  # or as much of it as ever will
    return answer._writer is None and protocol.transport.get_write_buffer_size() == 0  # noqa: SLF001


def _is_silent(connection: Connection) -> bool:
    protocol = connection.protocol
    if protocol is None or protocol.transport is None or protocol.should_close:
        return False
    waiting = select.poll()  # what the event loop has not come to read yet; the end of the connection shows here, too
    waiting.register(protocol.transport.get_extra_info("socket"), select.POLLIN)
    return not waiting.poll(0)


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """Gives the connection back, or closes it if there is more to read on it."""
        _give_back(self._answer)


def _give_back(answer: aiohttp.ClientResponse) -> None:
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


def _refuse_unwritable(headers: Iterable[tuple[str, str]]) -> None:
    """Raises LocalProtocolError for what cannot be written: found out here, while it is certain that nothing has left."""
    for name, value in headers:
        if _UNWRITABLE.search(name) or _UNWRITABLE.search(value):
            raise httpx.LocalProtocolError("a header cannot be written")


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Words of aiohttp that may quote the address, whose query may be a payer's, are left out."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:  # waiting for a free connection, or for the other side to take one
        raise httpx.ConnectTimeout("no connection in time") from error
    except aiohttp.ServerTimeoutError as error:
        raise httpx.ReadTimeout("no more of the answer in time") from error
    except aiohttp.ClientConnectorError as error:  # name, connection, TLS
        raise httpx.ConnectError(str(error)) from error
    except aiohttp.ClientHttpProxyError as error:  # it made no tunnel
        raise httpx.ConnectError(f"the proxy answered {error.status} instead of connecting") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise httpx.UnsupportedProtocol("the address is not one of http or https") from error
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(type(error).__name__) from error
    except OSError as error:
        raise httpx.ReadError(type(error).__name__) from error
    except (
        ValueError,
        HttpProcessingError,
    ) as error:  # of the answer, or of a request that had begun to leave
        raise httpx.RemoteProtocolError(type(error).__name__) from error
