"""Posts what the stand-ins have to tell: results, confirmations, web hooks. A pool of workers, each post at its own time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count

import aiohttp

_WORKERS = 64
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to tell. `tries` is how often at most; a 4xx is an answer and ends it, as a 2xx does."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    kind: str
    tries: int = 1
    retry_ms: int = 500
    number: int | None = None  # its place among those a restart must not forget; given by the pool


class Deliveries:
    """The pool. `pending` counts what is still to be told, waiting or on its way."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self.pending = 0
        self.held: dict[int, Delivery] | None = None  # what a journal that is done again has to tell; None: tell at once
        self._told = told
        self._numbers = count(1)
        self.outcomes: Counter[str] = Counter()
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession | None = None

    def post_later(self, delivery: Delivery, delay_ms: float, *, lasting: bool = True) -> None:
        """Posts `delivery` once `delay_ms` have passed. `lasting` ones outlive the process when there is a journal."""
        numbered = replace(delivery, number=next(self._numbers)) if lasting else delivery
        if self._hold(numbered):
            return
        self.pending += 1
        self._after(delay_ms, lambda: self._queue.put_nowait(numbered))

    async def post_now(self, delivery: Delivery) -> None:
        """Posts `delivery` and returns once it was told or given up."""
        numbered = replace(delivery, number=next(self._numbers))
        if self._hold(numbered):
            return
        self.pending += 1
        await self._try(numbered, numbered.tries)

    def release(self) -> None:
        """Tells what was held."""
        held, self.held = self.held or {}, None
        for delivery in held.values():
            self.pending += 1
            self._queue.put_nowait(delivery)
        if held:
            self._start()

    def _hold(self, delivery: Delivery) -> bool:
        if self.held is None:
            return False
        if delivery.number is not None:
            self.held[delivery.number] = delivery
        return True

    async def exchange(self, url: str, body: bytes, seconds: float) -> bytes | None:
        """Asks `url` and returns the body of a 200, or None when no such answer came in time."""
        if self.held is not None:
            return b'{"ResultCode": "0"}'  # only what was taken is in a journal
        limit = aiohttp.ClientTimeout(total=seconds)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session().post(url, data=body, headers=headers, timeout=limit) as answer:
                content = await answer.read()
                return content if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def ping(self, url: str) -> bool:
        """Whether a GET of `url` gets any answer at all."""
        if self.held is not None:
            return True
        try:
            async with self._session().get(url, headers={"User-Agent": "okhttp/4.12.0"}) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        return True

    def forget(self) -> None:
        """Drops all that is still to be told (on reset)."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        while not self._queue.empty():
            self._queue.get_nowait()
        self.pending = 0
        self.outcomes.clear()
        for worker in self._workers:
            worker.cancel()
        self._workers.clear()

    async def close(self) -> None:
        """Ends the pool."""
        self.forget()
        if self._http is not None:
            await self._http.close()

    def _after(self, delay_ms: float, act: Callable[[], None]) -> None:
        self._start()

        def due() -> None:
            self._timers.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_later(delay_ms / 1000, due)
        self._timers.add(timer)

    def _start(self) -> None:
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS), connector=aiohttp.TCPConnector(limit=_WORKERS)
            )
        return self._http

    async def _work(self) -> None:
        while True:
            delivery = await self._queue.get()
            await self._try(delivery, delivery.tries)

    async def _try(self, delivery: Delivery, tries: int) -> None:
        try:
            async with self._session().post(delivery.url, data=delivery.body, headers=delivery.headers) as answer:
                await answer.read()
                told, outcome = answer.status < 500, f"{delivery.kind} {answer.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            told, outcome = False, f"{delivery.kind} {type(error).__name__}"
        self.outcomes[outcome] += 1
        if told or tries <= 1:
            self.pending -= 1
            if delivery.number is not None:
                self._told(delivery.number)
            return
        later = replace(delivery, tries=tries - 1)
        self._after(delivery.retry_ms, lambda: self._queue.put_nowait(later))
