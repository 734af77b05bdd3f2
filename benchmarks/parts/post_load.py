"""A load generator that costs little: keep-alive connections that each post, wait for the answer and post again."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of load saw: answers of 200 in the measured time, others, and the latencies of the former, in seconds."""

    seconds: float
    acknowledged: int
    refused: int
    latencies: list[float]
    acknowledged_ever: int  # warm-up and tail included: what must be on disk

    @property
    def rate(self) -> float:
        return self.acknowledged / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Counts:
    def __init__(self) -> None:
        self.measuring = False
        self.stopping = False
        self.acknowledged = self.refused = self.acknowledged_ever = 0
        self.latencies: list[float] = []


class _Connection(asyncio.Protocol):
    """Posts what `take` gives: a request, after how many seconds, or None when there is no more."""

    def __init__(self, take: Callable[[], tuple[bytes, float] | None], counts: _Counts) -> None:
        self._take = take
        self._counts = counts
        self._buffer = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._post()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        self._count(accepted=self._buffer[9:12] == b"200")
        self._buffer = b""
        if self._counts.stopping:
            self._transport.close()
        else:
            self._post()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio.Protocol
        if not self.closed.done():
            self.closed.set_result(None)

    def _count(self, *, accepted: bool) -> None:
        counts = self._counts
        counts.acknowledged_ever += accepted
        if counts.measuring:
            if accepted:
                counts.acknowledged += 1
                counts.latencies.append(time.perf_counter() - self._posted_at)
            else:
                counts.refused += 1

    def _post(self) -> None:
        taken = self._take()
        if taken is None:
            self._transport.close()
            return
        request, wait = taken
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._write, request)
        else:
            self._write(request)

    def _write(self, request: bytes) -> None:
        self._posted_at = time.perf_counter()
        self._transport.write(request)


def post_for(port: int, requests: Sequence[bytes], *, connections: int, warm_up: float, seconds: float) -> Measured:
    """Posts `requests` (whole HTTP requests) over and over on `connections`, and measures for `seconds` after `warm_up`."""
    return uvloop.run(_post_for(port, requests, connections, warm_up, seconds))


def post_each(port: int, requests: Sequence[bytes], *, connections: int, rate: float | None = None) -> Measured:
    """Posts each of `requests` once, on `connections`: at `rate` a second as long as these suffice, None: as fast as they go."""
    return uvloop.run(_post_each(port, requests, connections, rate))


async def _post_each(port: int, requests: Sequence[bytes], connections: int, rate: float | None) -> Measured:
    loop = asyncio.get_running_loop()
    counts = _Counts()
    counts.measuring = True
    started = loop.time()
    left = enumerate(requests)

    def take() -> tuple[bytes, float] | None:
        number, request = next(left, (0, None))
        if request is None:
            return None
        return request, 0.0 if rate is None else started + number / rate - loop.time()

    opened = [(await loop.create_connection(lambda: _Connection(take, counts), "127.0.0.1", port))[1] for _ in range(connections)]
    await asyncio.wait([connection.closed for connection in opened])
    return Measured(loop.time() - started, counts.acknowledged, counts.refused, counts.latencies, counts.acknowledged_ever)


async def _post_for(port: int, requests: Sequence[bytes], connections: int, warm_up: float, seconds: float) -> Measured:
    loop = asyncio.get_running_loop()
    counts = _Counts()
    opened = []
    for number in range(connections):
        make = partial(_Connection, _over_and_over(requests, number), counts)
        opened.append((await loop.create_connection(make, "127.0.0.1", port))[1])
    await asyncio.sleep(warm_up)
    counts.measuring = True
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    counts.measuring = False
    measured = time.perf_counter() - started
    counts.stopping = True
    await asyncio.wait([connection.closed for connection in opened], timeout=10)
    return Measured(measured, counts.acknowledged, counts.refused, counts.latencies, counts.acknowledged_ever)


def _over_and_over(requests: Sequence[bytes], first: int) -> Callable[[], tuple[bytes, float]]:
    def numbers() -> Iterator[int]:
        number = first
        while True:
            yield number
            number = (number + 7) % len(requests)

    turn = numbers()
    return lambda: (requests[next(turn)], 0.0)
