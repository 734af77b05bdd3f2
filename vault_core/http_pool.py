"""Connections to the outside: several small pools instead of one large.

httpcore looks through all connections of a pool for each request, so that the cost of a request grows with the number in flight:
with 80 under way that look costs more than the request itself. Spread over small pools it stays flat.
"""

from collections.abc import AsyncIterator

import httpx

_POOLS = 16
_IN_A_POOL = 16


class SpreadTransport(httpx.AsyncBaseTransport):
    """Sends each request through the pool with the fewest under way; the first of equals, so that a quiet process keeps few."""

    def __init__(self) -> None:
        context = httpx.create_ssl_context()  # one for all: making it reads the machine's certificates
        limits = httpx.Limits(max_connections=_IN_A_POOL, max_keepalive_connections=_IN_A_POOL)
        self._pools = [httpx.AsyncHTTPTransport(verify=context, limits=limits) for _ in range(_POOLS)]
        self._under_way = [0] * _POOLS

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; the pool is busy with it until its body is read or closed."""
        chosen = min(range(_POOLS), key=self._under_way.__getitem__)
        self._under_way[chosen] += 1
        try:
            response = await self._pools[chosen].handle_async_request(request)
        except BaseException:
            self._under_way[chosen] -= 1
            raise
        response.stream = _Counted(response.stream, self._under_way, chosen)
        return response

    async def aclose(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            await pool.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, under_way: list[int], chosen: int) -> None:
        self._stream = stream
        self._under_way = under_way
        self._chosen: int | None = chosen

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport makes no other
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._chosen is not None:
            self._under_way[self._chosen] -= 1
            self._chosen = None
        if isinstance(self._stream, httpx.AsyncByteStream):
            await self._stream.aclose()
