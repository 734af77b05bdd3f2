"""How the ledger's proof reads: one snapshot, in pieces of bounded size, by several connections at once.

Every connection sees the ledger as it stood at one instant, however long the proof takes, and none of them locks or writes
anything. Pieces are handed out in order and their answers taken in by the thread that hands them out, so what is carried from
piece to piece needs no lock.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, TextClause, text

from vault_core.finding import Finding

_PIECES_AHEAD = 2  # asked for before a connection is free, so that none waits
_MOST_CONNECTIONS = 8
# Statements here read a hundred thousand rows by ranges of an index: plan each for its own range, sort and hash in memory, and
# leave running side by side to our own connections.
_PLANNING = text(
    """
    SELECT set_config('work_mem', '64MB', true), set_config('random_page_cost', '1.1', true),
           set_config('max_parallel_workers_per_gather', '0', true), set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('jit', 'off', true), set_config('idle_in_transaction_session_timeout', '0', true)
    """
)
_EXPORT = text("SELECT pg_export_snapshot()")

FINDINGS_A_CHECK = 20  # the first so many; a broken ledger would list millions

Rows = list[Row[Any]]


class Findings:
    """What was found wrong, at most `most` of each check."""

    def __init__(self, most: int = FINDINGS_A_CHECK) -> None:
        self.most = most
        self._by_check: dict[str, list[Finding]] = {}

    def add(self, *findings: Finding) -> None:
        """Keeps those for which there is still room."""
        for finding in findings:
            of_check = self._by_check.setdefault(finding.check, [])
            if len(of_check) < self.most:
                of_check.append(finding)

    def all(self) -> list[Finding]:
        """All of them, check by check."""
        return [finding for of_check in self._by_check.values() for finding in of_check]


class Progress(Protocol):
    """Told after every piece: the check under way, how many of its rows have been looked at, and how many there are about."""

    def __call__(self, check: str, done: int, total: int) -> None:
        """Called from one thread; `done` never shrinks within a check."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a check that is one statement over a range of rows."""

    statement: TextClause
    arguments: dict[str, Any]
    rows: int  # about so many it looks at, for the progress

    def read(self, connection: Connection) -> Rows:
        """Runs the statement."""
        return list(connection.execute(self.statement, self.arguments))


P = TypeVar("P", bound=Piece)


def default_connections() -> int:
    """As many as this machine has cores: the server does the work, and mostly it is the same machine."""
    return max(1, min(_MOST_CONNECTIONS, os.cpu_count() or 1))


@dataclass(slots=True)
class Snapshot:
    """The ledger at one instant. `connection` is the coordinator's; `run` reads beside it."""

    connection: Connection
    _engine: Engine
    _connections: int
    _stop: Event
    _stack: ExitStack
    _idle: SimpleQueue[Connection] = field(default_factory=SimpleQueue)
    _threads: ThreadPoolExecutor | None = None

    def read_alone(self) -> None:
        """From now on one piece after another: what opening connections would take is more than there is to read."""
        self._connections = 1

    def run(self, pieces: Iterable[P], take: Callable[[P, Rows], None]) -> None:
        """Runs every piece and gives its rows to `take`, in no promised order, on the calling thread.

        Raises CancelledError when told to stop.
        """
        if self._connections == 1:
            for piece in pieces:
                self._halt_if_told()
                take(piece, piece.read(self.connection))
            return
        threads = self._beside()
        under_way: dict[Future[Rows], P] = {}
        try:
            for piece in pieces:
                self._halt_if_told()
                under_way[threads.submit(self._read, piece)] = piece
                if len(under_way) >= self._connections * _PIECES_AHEAD:
                    self._take_finished(under_way, take)
            while under_way:
                self._take_finished(under_way, take)
        finally:
            for future in under_way:
                future.cancel()

    def _take_finished(self, under_way: dict[Future[Rows], P], take: Callable[[P, Rows], None]) -> None:
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            take(under_way.pop(future), future.result())
        self._halt_if_told()

    def _read(self, piece: Piece) -> Rows:
        connection = self._idle.get()
        try:
            return piece.read(connection)
        finally:
            self._idle.put(connection)

    def _beside(self) -> ThreadPoolExecutor:
        """Opens the connections beside the coordinator's when they are first needed: most ledgers of tests are one piece."""
        if self._threads is None:
            name: str = self.connection.execute(_EXPORT).scalar_one()
            for _ in range(self._connections):
                beside = self._stack.enter_context(self._engine.connect().execution_options(isolation_level="REPEATABLE READ"))
                self._stack.enter_context(beside.begin())
                beside.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{name}'")
                beside.execute(_PLANNING)
                self._idle.put(beside)
            self._threads = self._stack.enter_context(ThreadPoolExecutor(max_workers=self._connections))
        return self._threads

    def _halt_if_told(self) -> None:
        if self._stop.is_set():
            raise CancelledError


@contextmanager
def open_snapshot(engine: Engine, connections: int, stop: Event) -> Iterator[Snapshot]:
    """The ledger as it stands now, read by `connections` connections at once; `stop` ends the work at the next piece."""
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect().execution_options(isolation_level="REPEATABLE READ"))
        stack.enter_context(connection.begin())
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(_PLANNING)
        yield Snapshot(connection, engine, connections, stop, stack)
