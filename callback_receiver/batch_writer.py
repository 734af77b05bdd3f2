"""Micro-batched commits: deliveries that arrive together are committed together, and each waits only for its own commit.

A writer commits what is there; while it is under way, the next arrivals gather. So a quiet receiver commits a delivery at
once and a busy one shares each flush to disk among many.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from callback_receiver.metrics import Metrics
from callback_receiver.receiver_settings import ReceiverSettings
from vault_core.inbox.receiving import Arrival

log = structlog.get_logger(__name__)

_TICK = 0.25  # how often deliveries that waited too long are looked for
_CONTENT_REFUSED = (psycopg.DataError, psycopg.IntegrityError)
_STORE_FAILED = (psycopg.Error, SQLAlchemyError, OSError, TimeoutError)


class Store(Protocol):
    """What commits deliveries: vault_core.inbox.receiving.DeliveryStore."""

    async def store(self, arrivals: Sequence[Arrival]) -> None:
        """Commits all of `arrivals`, or raises."""
        ...


OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


@dataclass(slots=True, eq=False)
class _Waiting:
    arrival: Arrival
    stored: asyncio.Future[bool]
    since: float


class BatchWriter:
    """Commits deliveries in batches with a few writers, each on a connection of its own."""

    def __init__(
        self,
        open_store: OpenStore,
        on_stored: Callable[[Sequence[Arrival]], None],
        settings: ReceiverSettings,
        metrics: Metrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_store = open_store
        self._on_stored = on_stored
        self._settings = settings
        self._metrics = metrics
        self._monotonic = monotonic
        self._pending: deque[_Waiting] = deque()
        self._under_way: set[tuple[_Waiting, ...]] = set()
        self._arrived = asyncio.Event()

    def submit(self, arrival: Arrival) -> "asyncio.Future[bool] | None":
        """Queues `arrival`. The future tells whether it is on disk (True) or not known to be (False); None: too many wait."""
        if len(self._pending) >= self._settings.waiting_most:
            return None
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending.append(_Waiting(arrival, stored, self._monotonic()))
        self._arrived.set()
        return stored

    async def run(self) -> None:
        """Runs the writers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.writers):
                group.create_task(self._write())
            group.create_task(self._give_up_late_ones())

    def give_up(self, now: float) -> int:
        """Tells those that have waited longer than `commit_within` at `now` that they are not stored; returns how many.

        One whose commit is under way may still be stored: not acknowledged, it will be sent again, which harms nothing.
        """
        oldest = now - self._settings.commit_within
        late = []
        while self._pending and self._pending[0].since < oldest:
            late.append(self._pending.popleft())
        late += [waiting for batch in self._under_way for waiting in batch if waiting.since < oldest]
        open_ones = [waiting for waiting in late if not waiting.stored.done()]
        _tell(open_ones, stored=False)
        return len(open_ones)

    async def drain(self, within: float) -> None:
        """Waits for what is pending or under way, at most `within` seconds."""
        waiting = [waiting.stored for waiting in (*self._pending, *(one for batch in self._under_way for one in batch))]
        if waiting:
            await asyncio.wait(waiting, timeout=within)

    async def _give_up_late_ones(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            if late := self.give_up(self._monotonic()):
                log.error("commit too slow", not_acknowledged=late, waited_seconds=self._settings.commit_within)

    async def _write(self) -> None:
        async with AsyncExitStack() as connection:
            store: Store | None = None
            while True:
                batch = await self._next_batch()
                self._under_way.add(batch)
                try:
                    store = await self._commit(batch, store, connection)
                finally:
                    self._under_way.discard(batch)

    async def _next_batch(self) -> tuple[_Waiting, ...]:
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        if self._under_way and len(self._pending) < self._settings.batch_most:
            await asyncio.sleep(self._settings.batch_linger)
        most = min(len(self._pending), self._settings.batch_most)
        return tuple(self._pending.popleft() for _ in range(most))

    async def _commit(self, batch: tuple[_Waiting, ...], store: Store | None, connection: AsyncExitStack) -> Store | None:
        """Commits `batch`, on a new connection if the old one fails, and tells those who wait.

        Returns the store to go on with.
        """
        if not batch:
            return store
        for first in (True, False):
            try:
                async with asyncio.timeout(self._settings.commit_within):
                    if store is None:
                        store = await connection.enter_async_context(self._open_store())
                    started = self._monotonic()
                    await store.store([waiting.arrival for waiting in batch])
            except _CONTENT_REFUSED as error:
                await self._drop(connection)
                return await self._isolate(batch, error, connection)
            except _STORE_FAILED as error:
                await self._drop(connection)
                store = None
                # The text of a database error may quote the row: only its kind is logged.
                log.warning("deliveries not stored", deliveries=len(batch), error=type(error).__name__, again=first)
            else:
                self._metrics.commit_seconds.observe(self._monotonic() - started)
                self._metrics.batch_size.observe(len(batch))
                _tell(batch, stored=True)
                self._on_stored([waiting.arrival for waiting in batch])
                return store
        _tell(batch, stored=False)
        return None

    async def _isolate(self, batch: tuple[_Waiting, ...], error: Exception, connection: AsyncExitStack) -> Store | None:
        """Commits each delivery of a batch by itself, after the database refused the content of one."""
        if len(batch) == 1:
            log.error("the database refused a delivery", event_id=str(batch[0].arrival.id), error=type(error).__name__)
            _tell(batch, stored=False)
            return None
        store: Store | None = None
        for waiting in batch:
            store = await self._commit((waiting,), store, connection)
        return store

    @staticmethod
    async def _drop(connection: AsyncExitStack) -> None:
        """Throws the connection away: nothing is known about its state."""
        try:
            await connection.pop_all().__aexit__(ConnectionError, ConnectionError("a store failed"), None)
        except _STORE_FAILED as error:
            log.debug("the lost connection did not close", error=type(error).__name__)


def _tell(batch: Sequence[_Waiting], *, stored: bool) -> None:
    for waiting in batch:
        if not waiting.stored.done():
            waiting.stored.set_result(stored)
