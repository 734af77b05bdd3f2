"""One HTTP exchange with a deadline, told apart by what it proves: an answer, nothing sent, or sent and no answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httpx

from vault_core.errors import ConfigurationError
from vault_core.fault_points import is_armed, place_of, reach
from vault_core.http_pool import PooledClient

_LARGEST_ANSWER = 64 * 2**20
_CAUSE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """The other side answered. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request left: name, connection, TLS or pool. The other side did nothing."""

    cause: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have arrived, and no whole answer came back. The other side may have done it."""

    cause: str


Exchange = Answer | NotSent | NoAnswer

_TOO_LARGE = NoAnswer(f"the answer is larger than {_LARGEST_ANSWER} bytes")
_ACCEPTED = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


async def exchange(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109 - it reaches httpx as well, and its end is a value here, not an exception
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> Exchange:
    """Sends one request, once, and reads the answer whole. `timeout` (seconds) bounds each wait and the exchange as a whole.

    Causes name the failure and never the URL's query, headers or body. Raises ConfigurationError for a malformed URL.
    """
    try:
        async with asyncio.timeout(timeout):
            if isinstance(http, PooledClient):
                return await _directly(http, method, url, _waits(timeout), headers or {}, params, content)
            return await _through_httpx(http, method, url, _waits(timeout), headers or {}, params, content)
    except _NEVER_LEFT as error:
        return NotSent(_cause(error))
    except TimeoutError:
        return NoAnswer(f"no whole answer within {timeout:g} s")
    except httpx.TransportError as error:
        return NoAnswer(_cause(error))
    except httpx.DecodingError as error:
        return NoAnswer(f"the answer could not be decoded: {_cause(error)}")
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"the address {url.split('?', maxsplit=1)[0][:100]!r} is not a URL: {error}") from error


async def _directly(
    http: PooledClient,
    method: str,
    url: str,
    waits: httpx.Timeout,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    content: bytes | None,
) -> Answer | NoAnswer:
    place = _place(method, url)
    reach("before send", place)
    sent = {**http.agent, **_ACCEPTED, **headers}
    answer = await http.pool.fetch(
        method, url, headers=sent, params=params, content=content, waits=waits, largest=_LARGEST_ANSWER
    )
    if answer.body is None:
        return _TOO_LARGE
    reach("after receive", place)
    return Answer(answer.status, answer.headers, answer.body)


async def _through_httpx(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    waits: httpx.Timeout,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    content: bytes | None,
) -> Answer | NoAnswer:
    """For any other client of httpx."""
    request = http.build_request(method, url, params=params, headers=headers, content=content, timeout=waits)
    request.headers.pop("cookie", None)  # the pool is shared: one partner's session must never travel with another's call
    place = _place(method, url)
    reach("before send", place)
    response = await http.send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                return _TOO_LARGE
    finally:
        await response.aclose()
    reach("after receive", place)
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, bytes(body))


def _place(method: str, url: str) -> str:
    return place_of(method, urlsplit(url).path) if is_armed() else ""


@cache  # of the few that settings name
def _waits(timeout: float) -> httpx.Timeout:
    """Connecting ends well before the whole does, so that a connection that never came up is told from a lost answer."""
    return httpx.Timeout(timeout, connect=min(10.0, timeout / 2), pool=timeout / 2)


def _cause(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}"[:_CAUSE_LENGTH] if text else type(error).__name__
