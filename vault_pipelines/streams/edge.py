"""The one way from a Kafka batch to a service, and what happens when it fails.

Two facts of faust-streaming shape this: an exception in an agent acknowledges the message, and so does a cancelled batch
(reference measurements in docs/architecture.md). So nothing is left to an exception here: what may pass is tried again in
place, within a bound; what will not pass is written down with its cause; what cannot even be written down stops the process,
so that the batch is not acknowledged. Behind all of it stands the row in PostgreSQL, which the sweep or the relay offers again.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol, TypeVar
from uuid import UUID

import httpx
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, TransientError
from vault_core.fault_points import reach
from vault_core.inbox.applying import set_aside
from vault_core.inbox.envelope import event_id_of
from vault_core.outbox.calls import Call, claim_calls, record_failure
from vault_core.outbox.message import call_id_of
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

DEAD_LETTERS = "vault.dead-letters"
MAY_PASS = (TransientError, OperationalError, InterfaceError, PoolTimeout, httpx.HTTPError, OSError, TimeoutError)
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_STOPPED_BY_THE_EDGE = 70

DeliveryHandler = Callable[[Runtime, Connections, Sequence[UUID]], Awaitable[None]]
CallHandler = Callable[[Runtime, Connections, Sequence[Call]], Awaitable[None]]


class Message(Protocol):
    """A Kafka message as an agent gets it (faust.Event)."""

    key: bytes | None
    value: bytes | None


class Produce(Protocol):
    """Sends one Kafka message and returns when the broker has it."""

    async def __call__(self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> None:
        """Raises when the broker does not take it."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may pass is tried again before the batch is left to the sweep, in seconds."""

    service: float = 60.0
    recording: float = 30.0  # of a failure; then the process stops


class Edge:
    """What the agents and timers of one worker share. Opened when the worker starts, closed when it stops."""

    def __init__(self, produce: Produce, patience: Patience | None = None) -> None:
        self._produce = produce
        self._patience = patience or Patience()
        self._open = AsyncExitStack()
        self._before_close: list[Callable[[], Awaitable[None]]] = []
        self._runtime: Runtime | None = None
        self._connections: Connections | None = None

    async def open(self, settings: Settings) -> None:
        """Builds the worker's runtime. Connects to nothing yet."""
        self._runtime = await self._open.enter_async_context(open_runtime(settings, pool_size=10))
        self._connections = Connections(self._runtime)
        self._open.push_async_callback(self._connections.aclose)

    def before_close(self, act: Callable[[], Awaitable[None]]) -> None:
        """Has `act` done when the worker stops, while the runtime is still open."""
        self._before_close.append(act)

    async def close(self) -> None:
        """Closes it."""
        for act in self._before_close:
            await act()
        await self._open.aclose()

    @property
    def runtime(self) -> Runtime:
        """The worker's runtime."""
        if self._runtime is None:
            raise RuntimeError("the edge is used before the worker started")
        return self._runtime

    @property
    def connections(self) -> Connections:
        """The worker's clients of outside systems."""
        if self._connections is None:
            raise RuntimeError("the edge is used before the worker started")
        return self._connections

    async def apply(
        self, topic: str, messages: Sequence[Message], handler: DeliveryHandler, *, together: int | None = None
    ) -> None:
        """Applies the stored deliveries that `messages` name. When it returns, each is applied, an exception, or the sweep's.

        `together`: so many in one transaction and the rest beside them, in any order, so that one is computed while the database
        works on another. None: all in one.
        """
        reach("before take", topic)
        found = await self._read(topic, messages, event_id_of)
        ids = list(dict.fromkeys(event_id for event_id, _ in found))
        step = together or max(1, len(ids))
        await asyncio.gather(*(self._apply(topic, ids[start : start + step], handler) for start in range(0, len(ids), step)))
        reach("after take", topic)

    async def make_calls(self, topic: str, messages: Sequence[Message], handlers: Mapping[str, CallHandler]) -> None:
        """Makes the outbox calls that `messages` name; calls of one key one after another, as the outbox asks."""
        reach("before take", topic)
        for wave in waves(await self.read_calls(topic, messages)):
            if not await self.make(topic, wave, handlers):
                return
        reach("after take", topic)

    async def read_calls(self, topic: str, messages: Sequence[Message]) -> list[tuple[UUID, bytes | None]]:
        """The calls that `messages` name, with their ordering keys; a message that names none goes to the dead letters."""
        return await self._read(topic, messages, call_id_of)

    async def make(self, topic: str, ids: Sequence[UUID], handlers: Mapping[str, CallHandler]) -> bool:
        """Claims those of the calls `ids` that are due, and makes them. False: they could not be claimed, and are due still."""
        try:
            calls = await self._patiently(partial(claim_calls, self.runtime, ids), self._patience.service)
        except MAY_PASS as error:
            log.warning("calls left to the relay", topic=topic, calls=len(ids), cause=cause_of(error))
            return False
        for kind in dict.fromkeys(call.kind for call in calls):
            await self._make([call for call in calls if call.kind == kind], handlers.get(kind, _nobody_handles))
        return True

    async def _apply(self, topic: str, ids: list[UUID], handler: DeliveryHandler) -> bool:
        """Applies `ids`; False if what may pass did not pass in time, so that going on would only wait again."""
        try:
            await self._patiently(partial(handler, self.runtime, self.connections, ids), self._patience.service)
        except MAY_PASS as error:
            log.warning("deliveries left to the sweep", topic=topic, deliveries=len(ids), cause=cause_of(error))
            return False
        except Exception as error:  # noqa: BLE001 - the edge of a stream: the cause is recorded, row by row
            if len(ids) > 1:
                for event_id in ids:
                    if not await self._apply(topic, [event_id], handler):
                        return False
                return True
            await self._record(partial(set_aside, self.runtime, ids[0], error), what=f"the failure of delivery {ids[0]}")
        return True

    async def _make(self, calls: list[Call], handler: CallHandler) -> None:
        try:
            await handler(self.runtime, self.connections, calls)
        except Exception as error:  # noqa: BLE001 - the edge of a stream: the cause is recorded in the rows
            cause = cause_of(error)
            log.error("calls failed", kind=calls[0].kind, calls=len(calls), cause=cause)  # noqa: TRY400 - the cause says it
            await self._record(partial(self._record_failed_calls, calls, cause), what=f"{len(calls)} failed calls")

    async def _record_failed_calls(self, calls: list[Call], cause: str) -> None:
        runtime = self.runtime
        given_up = await record_failure(runtime, calls, cause)
        cases = [
            NewCase(
                kind="call_given_up",
                subject=f"{call.kind} {call.subject}",
                partner_id=call.partner_id,
                evidence={"cause": cause, "tries": call.tries},
            )
            for call in given_up
        ]

        async def work(connection: AsyncConnection) -> None:
            await open_cases(connection, runtime.clock, runtime.new_id, cases)

        await in_transaction(runtime.engine, work)

    async def _read(
        self, topic: str, messages: Sequence[Message], id_of: Callable[[bytes], UUID]
    ) -> list[tuple[UUID, bytes | None]]:
        """The ids in `messages` with their keys. A message without one goes to the dead letters before this returns."""
        found = []
        for message in messages:
            try:
                found.append((id_of(message.value or b""), message.key))
            except InvalidInput as error:
                await self._record(partial(self._bury, topic, message, str(error)), what=f"a bad message of {topic}")
        return found

    async def _bury(self, topic: str, message: Message, cause: str) -> None:
        log.error("dead letter", topic=topic, cause=cause)
        await self._produce(DEAD_LETTERS, message.key, message.value, {"topic": topic.encode(), "cause": cause.encode()})

    async def _record(self, record: Callable[[], Awaitable[None]], *, what: str) -> None:
        """Writes a failure down. If that cannot be done either, the process ends, and its batch stays unacknowledged."""
        try:
            await self._patiently(record, self._patience.recording)
        except Exception as error:  # noqa: BLE001 - whatever it is, going on would acknowledge what is written nowhere
            _stop(f"{what} cannot be recorded: {cause_of(error)}")

    async def _patiently(self, work: Callable[[], Awaitable[T]], within: float) -> T:
        """Runs `work`, again while it fails for what may pass, with doubling waits, for at most `within` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        wait = _FIRST_WAIT
        while True:
            try:
                return await work()
            except MAY_PASS as error:
                if loop.time() + wait > until:
                    raise
                log.warning("trying again", wait_seconds=wait, cause=cause_of(error))
                await asyncio.sleep(wait * self.runtime.chance.uniform(0.5, 1.0))
                wait = min(_LONGEST_WAIT, wait * 2)


def waves(found: Sequence[tuple[UUID, bytes | None]]) -> list[list[UUID]]:
    """The ids in waves: each id once, and in a wave each key at most once, so that what shares a key never overlaps."""
    made: list[list[UUID]] = []
    depth: dict[bytes | None, int] = {}
    for call_id, key in dict(found).items():
        level = depth.get(key, 0) if key is not None else 0
        depth[key] = level + 1
        while len(made) <= level:
            made.append([])
        made[level].append(call_id)
    return made


def cause_of(error: BaseException) -> str:
    """What `error` is, in one line. Of a database error only its first line: the next may quote a row."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:500]


async def _nobody_handles(_runtime: Runtime, _connections: Connections, calls: Sequence[Call]) -> None:
    raise InvalidInput(f"no handler for outbox calls of kind {calls[0].kind!r}")


def _stop(reason: str) -> NoReturn:
    log.critical("worker stopped", reason=reason)
    os._exit(_STOPPED_BY_THE_EDGE)
