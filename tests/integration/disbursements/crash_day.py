"""A day whose worker processes are killed: a real receiver, a sandbox, one database, and workers that are forked to work or to die.

A worker does what Dagster runs and stream workers do, with the product's own code from the poll to the text: jobs by the clock,
the edge, the handlers. Kafka is a list that dies with the process, which is worse than Kafka: whatever was published and not yet
taken is lost, and only what stands in PostgreSQL brings it back. Time is moved, for the worker and the sandbox together.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import text

from tests.integration.disbursements.conftest import HANDLERS
from vault_core import fault_points
from vault_core.collections.assigning import UNDO_CALL
from vault_core.collections.posting import post_collections
from vault_core.collections.undoing import undo_postings
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.posting import post_disbursements
from vault_core.disbursements.sending import send_batch
from vault_core.identifiers import id_maker
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE
from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import MIFOS_TOPIC, SMS_TOPIC
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import read_settings
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.periodic import Job, jobs

CALLS = {
    "disbursement.post": post_disbursements,
    "collection.post": post_collections,
    UNDO_CALL: undo_postings,
    "message.send": send_messages,
}
# Short waits, so that a worker which comes after a dead one finds everything due after a few steps of time.
PACE = {
    "VAULT_POLL_EVERY": "1",
    "VAULT_INBOX_SWEEP_AFTER": "1",
    "VAULT_OUTBOX_LEASE": "20",
    "VAULT_OUTBOX_RETRY_BASE": "1",
    "VAULT_STATUS_QUERY_AFTER": "30",
    "VAULT_STATUS_QUERY_SPACING": "60",
    "VAULT_PAYOUT_RETRY_BASE": "30",
    "VAULT_TRANCHE_LOOK_EVERY": "60",
    "VAULT_BALANCE_QUERY_EVERY": "30",
    "VAULT_SEND_WITHIN": "30",
    "VAULT_B2C_IN_FLIGHT": "4",
    "VAULT_B2C_PER_SECOND": "1000",
    "VAULT_HTTP_TIMEOUT": "5",
    "VAULT_MIFOS_WRITE_TIMEOUT": "5",
}
# What a worker lets pass between its rounds: leases, waits, and at last the time after which a batch is formed anew.
STEPS = (5, 40, 70, 100, 700, *(100,) * 12)
IMPATIENT_STEPS = (35,)


@dataclass(frozen=True)
class Duty:
    """What a worker does: `first` in each round, then its jobs by the clock and its deliveries (by purpose), while anything is left."""

    first: Callable[[Runtime, Connections], Awaitable[None]]
    jobs: tuple[str, ...]
    deliveries: Mapping[str, Any]
    left: str  # the statement that counts it


@dataclass
class MovedClock:
    """The machine's clock, moved by what has passed in the day."""

    passed: timedelta
    teller: int | None = None  # where it tells, line by line, how much has passed: a process that is killed can tell no more
    file: Path | None = None  # where it stands for other processes: the receiver's clock is moved by it (moved_receiver.py)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def move(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)
        if self.teller is not None:
            os.write(self.teller, f"{self.passed.total_seconds()}\n".encode())
        self.show()

    def show(self) -> None:
        if self.file is not None:
            written = self.file.with_suffix(".new")
            written.write_text(str(self.passed.total_seconds()))
            written.replace(self.file)  # it is read, and this process killed, at any moment


@dataclass(frozen=True)
class Ended:
    """How a worker ended: killed or with everything done, and how much of the day had passed."""

    killed: bool
    passed: timedelta


class Worker:
    """One process's work."""

    def __init__(self, runtime: Runtime, connections: Connections, clock: MovedClock, sandbox: str, duty: Duty) -> None:
        self.runtime = runtime
        self.connections = connections
        self.clock = clock
        self.sandbox = sandbox
        self.duty = duty
        self.deliveries = {TOPIC_OF_PURPOSE[purpose]: handler for purpose, handler in duty.deliveries.items()}
        self.published: dict[str, list[Any]] = {}
        self.edge = Edge(self._produce)
        self.edge._runtime, self.edge._connections = runtime, connections
        self.jobs: list[Job] = [job for job in jobs(self.edge, self._produce, heartbeat=None) if job.name in duty.jobs]

    async def _produce(self, topic: str, key: bytes | None, value: bytes | None, _headers: Mapping[str, bytes]) -> None:
        self.published.setdefault(topic, []).append(_Message(key, value))

    async def work(self, *, patient: bool) -> None:
        """Round after round, with time passing between them, until nothing is left to do; impatient: two rounds at most.

        Two rounds are enough to reach every fault point: in the second one the status question is due.
        """
        await self._sandbox_time()
        for step in STEPS if patient else IMPATIENT_STEPS:
            await self.round()
            if await self.is_done():
                return
            self.clock.move(step)
            await self._sandbox_time()
        await self.round()

    async def round(self) -> None:
        await self._until_still()  # hooks that wait are heard before the poll finds their loans
        await self.duty.first(self.runtime, self.connections)
        await self._until_still()

    async def _until_still(self) -> None:
        moved = True
        while moved:  # a result, then its posting, then its text
            await self._quiet()
            moved = sum([await job.work() for job in self.jobs]) > 0
            await self._take()

    async def _take(self) -> None:
        taken, self.published = self.published, {}
        for topic, messages in taken.items():
            if topic in (MIFOS_TOPIC, SMS_TOPIC):
                await self.edge.make_calls(topic, messages, CALLS)
            else:
                await self.edge.apply(topic, messages, self.deliveries[topic])

    async def is_done(self) -> bool:
        async with self.runtime.engine.connect() as connection:
            return not (await connection.execute(text(self.duty.left))).scalar_one()

    async def _quiet(self) -> None:
        async with asyncio.timeout(20):
            while (await self.runtime.http.get(f"{self.sandbox}/control/quiet")).json()["pending"]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.005)

    async def _sandbox_time(self) -> None:
        answer = await self.runtime.http.post(f"{self.sandbox}/control/settings", json={"now": self.clock.now().isoformat()})
        answer.raise_for_status()


@dataclass(frozen=True)
class _Message:
    key: bytes | None
    value: bytes | None


async def _pay_out(runtime: Runtime, connections: Connections) -> None:
    await poll_due(runtime, connections)
    for batch in await form_batches(runtime):
        await send_batch(runtime, connections, batch.id)


# The jobs that move a payout on. The others are about wallets, tariffs and the proof of the ledger.
PAYOUTS = Duty(
    first=_pay_out,
    jobs=(
        "relay calls",
        "sweep inbox",
        "ask about payouts",
        "look at held loans",
        "read held loans again",
        "watch floats",
        "ask for balances",
        "look for next tranches",
        "recover sending",
    ),
    deliveries=HANDLERS,
    left="""
    SELECT (SELECT count(*) FROM disbursements WHERE state NOT IN ('disbursed', 'needs_review'))
         + (SELECT count(*) FROM disbursements WHERE state = 'disbursed' AND next_tranche_at IS NOT NULL)
         + (SELECT count(*) FROM outbox WHERE state = 'pending')
         + (SELECT count(*) FROM cases WHERE kind = 'float_short' AND closed_at IS NULL)
         + (SELECT count(*) FROM inbound_events WHERE state = 'stored')
    """,
)


class States:
    """Writes down each fault point that is passed, before it the state of things there.

    Two points of one state are the same place to die: no transaction has written, and nothing has been said, between them.
    """

    def __init__(self, database_url: str, file: Path) -> None:
        self._file = file
        self._said = 0
        self._database = psycopg.connect(database_url, autocommit=True)

    def __call__(self, point: str) -> None:
        self._said += point.startswith("after send") and (" POST " in point or "/oauth/" in point)
        written = self._database.execute(_WRITTEN).fetchone()
        assert written is not None
        with self._file.open("a") as lines:
            lines.write(f"{written[0]}.{self._said}\t{point}\n")


_WRITTEN = "SELECT pg_snapshot_xmax(s)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s)) FROM pg_current_snapshot() AS s"


def work_in_child(
    environment: Mapping[str, str],
    sandbox: str,
    passed: timedelta,
    *,
    wish: str = "",
    states: Path | None = None,
    patient: bool,
    duty: Duty = PAYOUTS,
    clock_file: Path | None = None,
) -> Ended:
    """A forked process works with the settings of `environment` and this wish of a fault point, and its end is waited for."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            clock = MovedClock(passed, writer, clock_file)
            clock.show()
            asyncio.run(_work({**environment, "VAULT_FAULT_POINT": wish}, sandbox, clock, duty, states, patient=patient))
            code = 0
        except BaseException:  # noqa: BLE001 - the edge of the child: its test sees that it failed, and this says why
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        moved = said.read().split()
    passed = timedelta(seconds=float(moved[-1])) if moved else passed
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return Ended(killed=True, passed=passed)
    assert os.WEXITSTATUS(status) == 0, "the worker failed"
    return Ended(killed=False, passed=passed)


async def _work(
    environment: Mapping[str, str], sandbox: str, clock: MovedClock, duty: Duty, states: Path | None, *, patient: bool
) -> None:
    async with open_runtime(read_settings(environment)) as opened:
        if states is not None:
            fault_points._reached = States(environment["VAULT_DATABASE_URL"].replace("+psycopg", ""), states)
        runtime = replace(opened, clock=clock, new_id=id_maker(clock))
        async with aclosing(Connections(runtime)) as connections:
            await Worker(runtime, connections, clock, sandbox, duty).work(patient=patient)


def truth_of(sandbox: str) -> dict[str, Any]:
    truth: dict[str, Any] = httpx.get(f"{sandbox}/truth", timeout=10, verify=False).json()  # noqa: S501 - plain HTTP
    return truth
