"""How fast the whole ledger is proved and sealed.

    python -m benchmarks.ledger_proof [--entries 2000000] [--connections N] [--json FILE]

Loads a valid ledger of so many entries, seals it by the product's sealer alone, proves all of it in a process of its own, and
proves it again from a seal near its end. Real PostgreSQL with fsync on, on a server of its own. The ceilings are taken in the
same minutes over the same rows: the bare sum and count of all entries by as many connections at once, and one plain read of all
transactions and entries out of the server (COPY TO), which is the least that a proof anywhere else would begin with.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import Engine, text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.ledger_load import Load, load_ledger
from benchmarks.parts.proving import prove
from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from vault_core.database import APP_ROLE, open_owner_engine, open_sync_engine
from vault_core.ledger.sealing import SEAL_TRANSACTIONS
from vault_core.ledger.verification import LedgerProof, ProofScope
from vault_core.ledger.verification_work import default_connections
from vault_core.schema import migrate

BAR_PER_SECOND = 100_000.0
AIM_PER_SECOND = 250_000.0
_RECENT = 0.9  # share of the seals that the proof from a seal takes as given

_SEAL = text("SELECT ledger_seal(now(), :most)")
_PARTITIONS = text(
    """
    SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'ledger_entries'::regclass ORDER BY pg_relation_size(c.oid) DESC
    """
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each part."""

    load: Load
    seals: int
    sealing: float
    whole: LedgerProof
    recent: LedgerProof
    bare_sum: float
    plain_read: float
    bytes_an_entry: float
    peak_kib: int  # of the process that proves


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--connections", type=int, default=default_connections())
    options = parser.parse_args()
    with _postgres() as (owner_url, app_url):
        measured = _measure(owner_url, app_url, options.entries, options.connections)
    entries, transactions = measured.load.entries, measured.load.transactions
    seconds = measured.whole.took.total_seconds()
    rate = entries / seconds
    figures = [
        Figure("whole proof", rate, "entries/s"),
        Figure("whole proof", seconds, "s"),
        Figure("whole proof of 50 million entries, at that rate", 50_000_000 / rate / 60, "min"),
        Figure("proof of the last tenth, from a seal on", measured.recent.took.total_seconds(), "s"),
        Figure("sealing, one connection", transactions / measured.sealing, "transactions/s"),
        Figure("loading by COPY", measured.load.entries_per_second, "entries/s"),
        Figure("bare sum and count", entries / measured.bare_sum, "entries/s"),
        Figure("plain read out of the server", entries / measured.plain_read, "entries/s"),
        Figure("size with indexes, transactions and keys", measured.bytes_an_entry, "bytes an entry"),
        Figure("peak memory of the proof's process", measured.peak_kib / 1024, "MiB"),
        Figure("entries", entries, "entries"),
        Figure("seals", measured.seals, "seals"),
        Figure("connections", options.connections, "connections"),
    ]
    ratios = [
        Ratio("speed", measured.plain_read / seconds, "one plain read of the transactions and entries"),
        Ratio("speed", measured.bare_sum / seconds, "the bare sum of the entries, as many connections"),
        Ratio("speed", rate / BAR_PER_SECOND, f"the bar of {BAR_PER_SECOND:,.0f} entries/s"),
        Ratio("speed", rate / AIM_PER_SECOND, f"the aim of {AIM_PER_SECOND:,.0f} entries/s"),
    ]
    publish("ledger_proof", figures, ratios, options.json)
    return 0 if rate >= BAR_PER_SECOND else 1


def _measure(owner_url: str, app_url: str, entries: int, connections: int) -> Measured:
    load = load_ledger(owner_url, entries, seal=False)
    reader = open_sync_engine(app_url)
    seals, sealing = _seal(reader)
    owner = open_owner_engine(owner_url)
    with owner.connect() as connection:
        size: int = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    owner.dispose()
    plain_url = owner_url.replace("postgresql+psycopg:", "postgresql:")
    bare_sum = _timed(lambda: _sum(reader, connections))
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as prover:
        whole, peak_kib = prover.submit(prove, app_url, ProofScope(), connections).result()
        plain_read = _timed(lambda: _read(plain_url))
        scope = ProofScope(from_seal=max(int(seals * _RECENT), 1))
        recent, _ = prover.submit(prove, app_url, scope, connections).result()
    if whole.findings or recent.findings:
        raise SystemExit(f"the loaded ledger is wrong: {[*whole.findings, *recent.findings][:3]}")
    reader.dispose()
    return Measured(load, seals, sealing, whole, recent, bare_sum, plain_read, size / load.entries, peak_kib)


def _seal(engine: Engine) -> tuple[int, float]:
    """Seals all there is; returns how many seals that made and its seconds."""
    seals, started = 0, time.perf_counter()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(_SEAL, {"most": SEAL_TRANSACTIONS}).scalar_one():
            seals += 1
    return seals, time.perf_counter() - started


def _sum(engine: Engine, connections: int) -> None:
    """Sums the partitions, each by a connection that is free."""

    def of_partition(name: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
            connection.exec_driver_sql(f"SELECT sum(amount_cents), count(*) FROM {name}").one()  # noqa: S608 - from the catalogue

    with engine.connect() as connection:
        names = list(connection.execute(_PARTITIONS).scalars())
    with ThreadPoolExecutor(max_workers=connections) as threads:
        list(threads.map(of_partition, names))


def _read(place: str) -> None:
    with psycopg.connect(place) as connection, connection.cursor() as cursor:
        for table in ("ledger_transactions", "ledger_entries"):
            with cursor.copy(sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT binary)").format(sql.Identifier(table))) as copy:
                for _ in copy:
                    pass


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _postgres() -> Iterator[tuple[str, str]]:
    """The URLs of a migrated database for its owner and for the application, on a durable server of its own."""
    with tempfile.TemporaryDirectory(prefix="pvb") as name, temporary_postgres(Path(name), durable=True) as place:
        ensure_databases(place)
        owner_url = place.url("vault")
        owner = open_owner_engine(owner_url)
        migrate(owner, now=datetime.now(UTC))
        owner.dispose()
        yield owner_url, place.url("vault", user=APP_ROLE)


if __name__ == "__main__":
    raise SystemExit(main())
