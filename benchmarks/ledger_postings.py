"""Durable postings a second, against pgbench's TPC-B on the same server in the same run.

    python -m benchmarks.ledger_postings [--connections 3] [--batch 200] [--seconds 8] [--rounds 3] [--entries N] [--json FILE]

In turns, each for `seconds`, `rounds` times over: TPC-B (prepared statements, scale 50, so that its hottest table has 50 rows);
two-leg postings over the wallets of 50 partners; the same all on one wallet, one row that every connection waits for; holds
placed and captured, in two transactions; and postings again while one more process reads balances. Every commit waits for the
disk. Each connection is a process of its own that makes its postings, calls `post` and takes the answer: its processor time is in
the figures, on the same cores as the server's. `--entries` then loads the ledger to that size, measures once more, and proves it.
"""

import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.pool import Pool
from pathlib import Path
from uuid import UUID

import httpx
import uvloop
from sqlalchemy import text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.ledger_load import load_ledger
from benchmarks.parts.proving import prove
from local_stack.embedded_postgres import PostgresPlace, ensure_databases, programs, temporary_postgres
from vault_core.clock import SystemClock
from vault_core.database import APP_ROLE, in_transaction, open_async_engine, open_owner_engine
from vault_core.identifiers import id_maker
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import Capture, HoldRequest, capture_holds, place_holds
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.ledger.verification import LedgerProof, ProofScope
from vault_core.ledger.verification_work import default_connections
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.schema import migrate
from vault_core.secrets import Sealer
from vault_core.settings import Pace

SPREAD_BAR = 3.0
HOT_BAR = 2.0
SLOWER_BAR = 0.8  # of the speed on an empty ledger
AIM_POSTINGS = 20_000
AIM_P99_MS = 50.0
PARTNERS = 50
SCALE = 50
_FEES = AccountRef(None, "fees:system")
_BANK = AccountRef(None, "bank:settlement")
_ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
        c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (:id, :name, :name, 'u', 't', 'm', 'u', 'i', :name, :name, 'u', 's', 's', now(), now())
    """
)
_SIZE = text("SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relname LIKE 'ledger\\_%'")
_WRITTEN = text("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
_COUNT = text("SELECT count(*) FROM ledger_transactions")


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does on one connection, for how long."""

    database_url: str
    act: str
    seconds: float
    batch: int
    partners: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """How much of it, at what rate, and how long each call took in ms."""

    rate: float
    took: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """One round's rates a second."""

    tpcb: float
    spread: Done
    hot: Done
    holds: Done
    reads: Done
    beside_reads: Done


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=0, help="load the ledger to about so many and measure again")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with _postgres() as place, context.Pool(options.connections + 1) as pool:
        bench = _Bench(place, pool, options.connections, options.batch, options.seconds)
        rounds = [bench.round() for _ in range(options.rounds)]
        bytes_kept, bytes_logged = bench.bytes_per_posting()
        grown = bench.grow(options.entries) if options.entries else None
        proof = bench.prove() if options.entries else None
    tpcb, spread, hot, holds = (
        statistics.median(rates)
        for rates in zip(*((one.tpcb, one.spread.rate, one.hot.rate, one.holds.rate) for one in rounds), strict=True)
    )
    batches = [took for one in rounds for took in one.spread.took]
    figures = [
        Figure("TPC-B transactions", tpcb, "1/s"),
        Figure(f"postings over {PARTNERS} wallets", spread, "1/s"),
        Figure("a batch of them, half", _quantile(batches, 0.5), "ms"),
        Figure("a batch of them, 99 %", _quantile(batches, 0.99), "ms"),
        Figure("postings on one wallet", hot, "1/s"),
        Figure("a batch of them, 99 %", _quantile([took for one in rounds for took in one.hot.took], 0.99), "ms"),
        Figure("hold and capture pairs", holds, "1/s"),
        Figure("a balance read beside postings, half", _quantile([took for one in rounds for took in one.reads.took], 0.5), "ms"),
        Figure(
            "a balance read beside postings, 99 %", _quantile([took for one in rounds for took in one.reads.took], 0.99), "ms"
        ),
        Figure("postings beside those reads", statistics.median(one.beside_reads.rate for one in rounds), "1/s"),
        Figure("kept for a posting, with indexes", bytes_kept, "bytes"),
        Figure("written to the log for a posting", bytes_logged, "bytes"),
        Figure("batch", options.batch, "postings"),
        Figure("connections, of TPC-B too", options.connections, "connections"),
    ]
    ratios = [
        Ratio("over 50 wallets", spread / tpcb, f"TPC-B (the bar is {SPREAD_BAR:.0f})"),
        Ratio("on one wallet", hot / tpcb, f"TPC-B (the bar is {HOT_BAR:.0f})"),
        Ratio("hold and capture pairs", holds / tpcb, "TPC-B"),
        Ratio("over 50 wallets", spread / AIM_POSTINGS, f"the aim of {AIM_POSTINGS:,} a second"),
        Ratio("99 % of batches", _quantile(batches, 0.99) / AIM_P99_MS, f"the aim of {AIM_P99_MS:.0f} ms"),
    ]
    met = spread / tpcb >= SPREAD_BAR and hot / tpcb >= HOT_BAR
    if grown is not None and proof is not None:
        figures += [
            Figure("entries loaded", options.entries, "entries"),
            Figure("postings then", grown, "1/s"),
            Figure("whole proof then", proof.took.total_seconds(), "s"),
            Figure("entries that it read", proof.entries, "entries"),
        ]
        ratios.append(Ratio("after loading", grown / spread, f"the speed before (the bar is {SLOWER_BAR})"))
        met = met and grown / spread >= SLOWER_BAR
    publish("ledger_postings", figures, ratios, options.json)
    return 0 if met else 1


class _Bench:
    def __init__(self, place: PostgresPlace, pool: Pool, connections: int, batch: int, seconds: float) -> None:
        self._place = place
        self._pool = pool
        self._connections = connections
        self._batch = batch
        self._seconds = seconds
        self._owner = open_owner_engine(place.url("vault"))
        migrate(self._owner, now=datetime.now(UTC))
        self._partners = tuple(UUID(int=random.getrandbits(128), version=4) for _ in range(PARTNERS))
        with self._owner.begin() as connection:
            for number, partner_id in enumerate(self._partners):
                connection.execute(_ADD_PARTNER, {"id": partner_id, "name": f"bench{number}"})
        _pgbench(place, "-i", "-q", "-s", str(SCALE))
        self._run("fund", connections=1)
        self._run("spread")  # warms what all rounds stand on

    def round(self) -> Round:
        """Each thing once, in turns."""
        tpcb = self._tpcb()
        spread, hot, holds = self._run("spread"), self._run("hot"), self._run("holds")
        reading = self._pool.apply_async(_work, [self._task("read")])
        beside = self._run("spread")
        return Round(tpcb, spread, hot, holds, reading.get(), beside)

    def bytes_per_posting(self) -> tuple[float, float]:
        """Of the tables with their indexes, of all postings so far; of the write-ahead log, of postings over wallets now."""
        with self._owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            kept = connection.execute(_SIZE).scalar_one() / connection.execute(_COUNT).scalar_one()
            before = connection.execute(_COUNT).scalar_one(), connection.execute(_WRITTEN).scalar_one()
            self._run("spread")
            after = connection.execute(_COUNT).scalar_one(), connection.execute(_WRITTEN).scalar_one()
        return kept, (after[1] - before[1]) / (after[0] - before[0])

    def grow(self, entries: int) -> float:
        """The rate over the wallets once the ledger holds so many entries more."""
        load_ledger(self._place.url("vault"), entries)
        self._run("spread")
        return statistics.median(self._run("spread").rate for _ in range(3))

    def prove(self) -> LedgerProof:
        """The proof of all that was posted and loaded."""
        url = self._place.url("vault", user=APP_ROLE)
        proof, _ = self._pool.apply(prove, [url, ProofScope(), default_connections()])
        if proof.findings:
            raise SystemExit(f"the ledger is wrong: {proof.findings[:3]}")
        return proof

    def _run(self, act: str, *, connections: int | None = None) -> Done:
        done = self._pool.map(_work, [self._task(act)] * (connections or self._connections), chunksize=1)
        return Done(sum(one.rate for one in done), tuple(took for one in done for took in one.took))

    def _task(self, act: str) -> Task:
        url = self._place.url("vault", user=APP_ROLE)
        return Task(url, act, self._seconds, self._batch, self._partners)

    def _tpcb(self) -> float:
        report = _pgbench(
            self._place, "-n", "-M", "prepared", "-c", str(self._connections), "-j", "2", "-T", str(max(round(self._seconds), 1))
        )
        found = re.search(r"tps = ([\d.]+)", report)
        if found is None:
            raise SystemExit(f"pgbench gave no rate:\n{report}")
        return float(found.group(1))


def _work(task: Task) -> Done:
    return uvloop.run(_worker(task))


async def _worker(task: Task) -> Done:
    clock = SystemClock()
    engine = open_async_engine(task.database_url, pool_size=1)
    async with httpx.AsyncClient() as http:
        sealer = Sealer([("bench", os.urandom(32))])
        runtime = Runtime(engine, clock, id_maker(clock), random.Random(), sealer, http, Pace(), "")
        act = _Acts(runtime, task).named(task.act)
        await act()
        took: list[float] = []
        handled = 0
        started = time.perf_counter()
        while (begun := time.perf_counter()) - started < task.seconds:
            handled += await act()
            took.append((time.perf_counter() - begun) * 1000)
        rate = handled / (time.perf_counter() - started)
    await engine.dispose()
    return Done(rate, tuple(took))


class _Acts:
    """What is measured: each call does one batch, or one read, and returns how many that were."""

    def __init__(self, runtime: Runtime, task: Task) -> None:
        self._runtime = runtime
        self._task = task
        self._number = 0
        self._run = f"{os.getpid()}:{time.monotonic_ns()}"

    def named(self, act: str) -> Callable[[], Awaitable[int]]:
        return {"fund": self._fund, "spread": self._spread, "hot": self._hot, "holds": self._holds, "read": self._read}[act]

    async def _fund(self) -> int:
        return await self._post([self._posting(partner, _BANK, -(10**12)) for partner in self._task.partners])

    async def _spread(self) -> int:
        chosen = self._runtime.chance.choices(self._task.partners, k=self._task.batch)
        return await self._post([self._posting(partner, _FEES, 5) for partner in chosen])

    async def _hot(self) -> int:
        return await self._post([self._posting(self._task.partners[0], _FEES, 5) for _ in range(self._task.batch)])

    async def _holds(self) -> int:
        chosen = self._runtime.chance.choices(self._task.partners, k=self._task.batch)
        wanted = [self._posting(partner, _FEES, 5) for partner in chosen]
        requests = [
            HoldRequest(AccountRef(one.partner_id, "wallet"), partner, one.key, Money(8))
            for one, partner in zip(wanted, chosen, strict=True)
        ]
        placed = await in_transaction(self._runtime.engine, lambda connection: place_holds(connection, self._runtime, requests))
        captures = [Capture(hold, one) for one in wanted if isinstance(hold := placed[one.key], UUID)]
        await in_transaction(self._runtime.engine, lambda connection: capture_holds(connection, self._runtime, captures))
        return len(captures)

    async def _read(self) -> int:
        async with self._runtime.engine.connect() as connection:
            await balance(connection, AccountRef(self._runtime.chance.choice(self._task.partners), "wallet"))
        return 1

    async def _post(self, postings: list[Posting]) -> int:
        return len(await in_transaction(self._runtime.engine, lambda connection: post(connection, self._runtime, postings)))

    def _posting(self, partner_id: UUID, house: AccountRef, cents: int) -> Posting:
        self._number += 1
        key = f"charges:{self._run}:{self._number}"
        legs = (Leg(AccountRef(partner_id, "wallet"), cents), Leg(house, -cents))
        return Posting(partner_id, "charges", key, f"UAB{self._number:07d}", self._runtime.clock.now(), legs)


def _pgbench(place: PostgresPlace, *options: str) -> str:
    command = [str(programs() / "pgbench"), "-h", str(place.sockets), "-U", "postgres", *options, "postgres"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pgbench failed: {done.stderr[-500:]}")
    return done.stdout


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


@contextmanager
def _postgres() -> Iterator[PostgresPlace]:
    """A durable server of its own with the product's databases."""
    with tempfile.TemporaryDirectory(prefix="pvb") as name, temporary_postgres(Path(name), durable=True) as place:
        ensure_databases(place)
        yield place


if __name__ == "__main__":
    sys.exit(main())
