"""A load generator that costs little: keep-alive connections that each post, wait for the answer and post again."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
    def __init__(self, requests: Sequence[bytes], first: int, counts: _Counts) -> None:
        self._requests = requests
        self._next = first
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
        self._posted_at = time.perf_counter()
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 7) % len(self._requests)


def post_for(port: int, requests: Sequence[bytes], *, connections: int, warm_up: float, seconds: float) -> Measured:
    """Posts `requests` (whole HTTP requests) over and over on `connections`, and measures for `seconds` after `warm_up`."""
    return uvloop.run(_post_for(port, requests, connections, warm_up, seconds))


async def _post_for(port: int, requests: Sequence[bytes], connections: int, warm_up: float, seconds: float) -> Measured:
    loop = asyncio.get_running_loop()
    counts = _Counts()
    opened = [
        (await loop.create_connection(lambda first=number: _Connection(requests, first, counts), "127.0.0.1", port))[1]
        for number in range(connections)
    ]
    await asyncio.sleep(warm_up)
    counts.measuring = True
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    counts.measuring = False
    measured = time.perf_counter() - started
    counts.stopping = True
    await asyncio.wait([connection.closed for connection in opened], timeout=10)
    return Measured(measured, counts.acknowledged, counts.refused, counts.latencies, counts.acknowledged_ever)
