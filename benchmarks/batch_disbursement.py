"""From approved loans in Mifos X to all B2C requests sent.

    python -m benchmarks.batch_disbursement [--loans 5000] [--lenders 5] [--latency-ms 50] [--flat] [--json FILE]

Measured is the running stack: its Dagster daemon, sensor and run processes, its PostgreSQL with fsync on, its Kafka, receiver
and stream worker idle beside them; the sandbox is a process of its own and answers a payment after `latency-ms`. The clock begins
when all loans are approved and all lenders are due to be polled, and ends when M-Pesa's answer to the last payment is recorded:
waiting for the sensor's tick, finding (pages, each client's phone), Dagster's start of a run a lender, claiming, reading each
loan again and sending are in it. Results are told after the measurement. The bar is 120 s and the aim 60 s on two cores.

Two ceilings are taken afterwards with the same HTTP client and as many calls in flight as one lender may have: the B2C requests
alone, and all three requests that each loan takes.

`--flat` measures instead what a loan costs as loans become more, without Dagster: 1,000 and then 20,000 loans of the same
lenders, each time on a new database, found and sent by the same services in one process. Cost is processor time of that process
and of PostgreSQL a loan, and wall time a loan; flat is a ratio of about 1. Results are not told.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import uvloop
from sqlalchemy import text

from benchmarks.parts.bare_payer import pay_bare
from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.lenders import APPROVED, SUBMITTED, Lender, lenders, take_in
from benchmarks.parts.process_usage import SELF, UsageWatch, own_children, supervised, usage_figures
from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from tests.private_stack import PrivateStack, start_private_stack
from tests.sandbox_process import start_sandbox
from vault_core.clock import SystemClock
from vault_core.database import APP_ROLE, open_async_engine, open_owner_engine
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.sending import send_batch
from vault_core.http_pool import PooledTransport
from vault_core.identifiers import id_maker
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.schema import migrate
from vault_core.secrets import Sealer
from vault_core.settings import Pace, read_settings

NAME = "batch_disbursement"
BAR_SECONDS = 120.0
AIM_SECONDS = 60.0
FLAT_SIZES = (1_000, 20_000)
_FAST = "1000"  # B2C requests a second and lender: M-Pesa's own limit is not measured here
_PATIENCE = 600.0
_NO_RESULTS = 3_600_000  # milliseconds
_DUE = text("UPDATE partners SET next_poll_at = :now")
_STANDING = text(
    """
    SELECT count(*) AS found, count(*) FILTER (WHERE batch_id IS NOT NULL) AS grouped,
           count(*) FILTER (WHERE state = 'accepted') AS sent
    FROM disbursements
    """
)
_MOMENTS = text(
    """
    SELECT extract(epoch FROM (SELECT max(detected_at) FROM disbursements))::float8 AS found,
           extract(epoch FROM min(written_at))::float8 AS first, extract(epoch FROM max(answered_at))::float8 AS last
    FROM disbursement_attempts
    """
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a loan cost: milliseconds of processor time in the services' process and in PostgreSQL, and of wall time."""

    loans: int
    services: float
    database: float
    wall: float


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--loans", type=int, default=5000, help="of all lenders together")
    parser.add_argument("--lenders", type=int, default=5)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--flat", action="store_true", help="what a loan costs with 1,000 and with 20,000 loans, instead")
    options = parser.parse_args()
    of = lenders(options.lenders)
    if options.flat:
        costs = [_cost(of, loans, options.latency_ms) for loans in FLAT_SIZES]
        publish(NAME, _flat_figures(costs), _flat_ratios(*costs), options.json)
        return 0
    with start_private_stack(sandbox=True, VAULT_B2C_PER_SECOND=_FAST, VAULT_TOP_UP_ALONE_UP_TO=str(10**9)) as stack:
        seconds, figures, ratios = asyncio.run(_measure(stack, of, options.loans // len(of), options.latency_ms))
    publish(NAME, figures, ratios, options.json)
    return 0 if seconds <= BAR_SECONDS else 1


async def _measure(stack: PrivateStack, of: list[Lender], loans: int, latency_ms: int) -> tuple[float, list[Figure], list[Ratio]]:
    settings = {"b2c_latency_ms": latency_ms, "result_delay_ms": _NO_RESULTS}
    async with open_runtime(read_settings(stack.environment)) as runtime:
        await take_in(runtime, stack.sandbox_url, of, [(loans, SUBMITTED)], settings)
        await _approve_all(runtime, stack.sandbox_url, of, loans)
        watch = UsageWatch(partial(supervised, stack.plan))
        began = time.time()
        await _poll_now(runtime)
        await _until_sent(runtime, loans * len(of), watch)
        used = watch.look()
        async with runtime.engine.connect() as connection:
            moments = (await connection.execute(_MOMENTS)).one()
        in_flight = runtime.pace.b2c_in_flight
        payments_alone = await pay_bare(stack.sandbox_url, of, loans, in_flight, reads=False)
        all_requests = await pay_bare(stack.sandbox_url, of, loans, in_flight, reads=True)
    seconds, count = moments.last - began, loans * len(of)
    figures = [
        Figure("approved to all sent", seconds, "s"),
        Figure("of it: until all were found", moments.found - began, "s"),
        Figure("of it: until the first was written to be sent", moments.first - began, "s"),
        Figure("of it: from then until the last answer was recorded", moments.last - moments.first, "s"),
        Figure("loans a second", count / seconds, "1/s"),
        Figure("bare: B2C requests alone", payments_alone, "s"),
        Figure("bare: all three requests a loan", all_requests, "s"),
        Figure("loans", count, "loans"),
        Figure("lenders", len(of), "lenders"),
        Figure("latency of the B2C gateway", latency_ms, "ms"),
        *usage_figures(used, watch.peaks(), per=count, what="loan", seconds=seconds),
    ]
    ratios = [
        Ratio("speed", payments_alone / seconds, "bare B2C requests alone"),
        Ratio("speed", all_requests / seconds, "bare, the three requests of each loan"),
        Ratio("time", seconds / BAR_SECONDS, f"the bar of {BAR_SECONDS:.0f} s"),
        Ratio("time", seconds / AIM_SECONDS, f"the aim of {AIM_SECONDS:.0f} s"),
    ]
    return seconds, figures, ratios


async def _approve_all(runtime: Runtime, sandbox_url: str, of: list[Lender], loans: int) -> None:
    """Only now, so that the sensor, which runs all the time, has found none of them before."""
    for lender in of:
        wish = {"host": lender.name, "loans": list(range(1, loans + 1))}
        answer = await runtime.http.post(f"{sandbox_url}/control/approve", json=wish, timeout=_PATIENCE)
        if set(answer.raise_for_status().json()["statuses"].values()) != {httpx.codes.OK}:
            raise SystemExit(f"not all loans of {lender.name} were approved: {answer.text[:300]}")


async def _poll_now(runtime: Runtime) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(_DUE, {"now": runtime.clock.now()})


async def _until_sent(runtime: Runtime, wanted: int, watch: UsageWatch) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        async with runtime.engine.connect() as connection:
            standing = (await connection.execute(_STANDING)).one()
        if standing.sent >= wanted:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_PATIENCE:.0f} s: {standing} of {wanted}")
        watch.look()
        await asyncio.sleep(1.0)


def _cost(of: list[Lender], loans: int, latency_ms: int) -> Cost:
    settings = {"b2c_latency_ms": latency_ms, "result_delay_ms": _NO_RESULTS}
    with _postgres() as database_url, start_sandbox() as sandbox_url:
        return uvloop.run(_cost_of_services(database_url, sandbox_url, of, loans, settings))


async def _cost_of_services(database_url: str, sandbox_url: str, of: list[Lender], loans: int, settings: dict[str, int]) -> Cost:
    clock = SystemClock()
    engine = open_async_engine(database_url)
    async with httpx.AsyncClient(timeout=30, transport=PooledTransport(), headers={"User-Agent": "payment-vault"}) as http:
        runtime = Runtime(
            engine=engine,
            clock=clock,
            new_id=id_maker(clock),
            chance=random.Random(1),
            sealer=Sealer([("bench", os.urandom(32))]),
            http=http,
            pace=replace(Pace(), b2c_per_second=float(_FAST)),
            public_url="http://127.0.0.1:9",
        )
        await take_in(runtime, sandbox_url, of, [(loans // len(of), APPROVED)], settings)
        await _poll_now(runtime)
        connections = Connections(runtime)
        watch = UsageWatch(own_children)
        began = time.perf_counter()
        polls = await poll_due(runtime, connections)
        sent = [await send_batch(runtime, connections, batch.id) for batch in await form_batches(runtime)]
        wall, used = time.perf_counter() - began, watch.look()
        await connections.aclose()
    await engine.dispose()
    if any(poll.error for poll in polls) or sum(report.accepted for report in sent) != loans:
        raise SystemExit(f"not all loans were sent: {polls}, {sent}")
    return Cost(loans, used[SELF] / loans * 1000, used["PostgreSQL"] / loans * 1000, wall / loans * 1000)


def _flat_figures(costs: list[Cost]) -> list[Figure]:
    return [
        figure
        for cost in costs
        for figure in (
            Figure(f"{cost.loans:,} loans: processor time of the services a loan", cost.services, "ms"),
            Figure(f"{cost.loans:,} loans: processor time of PostgreSQL a loan", cost.database, "ms"),
            Figure(f"{cost.loans:,} loans: wall time a loan", cost.wall, "ms"),
        )
    ]


def _flat_ratios(few: Cost, many: Cost) -> list[Ratio]:
    against = f"a loan among {few.loans:,}"
    return [
        Ratio(f"processor time a loan among {many.loans:,}", _ratio(many, few), against),
        Ratio(f"processor time of PostgreSQL a loan among {many.loans:,}", many.database / few.database, against),
        Ratio(f"wall time a loan among {many.loans:,}", many.wall / few.wall, against),
    ]


def _ratio(many: Cost, few: Cost) -> float:
    return (many.services + many.database) / (few.services + few.database)


@contextmanager
def _postgres() -> Iterator[str]:
    """The URL of a migrated database, on a durable server of its own."""
    with tempfile.TemporaryDirectory(prefix="pvb") as name, temporary_postgres(Path(name), durable=True) as place:
        ensure_databases(place)
        owner = open_owner_engine(place.url("vault"))
        migrate(owner, now=datetime.now(UTC))
        owner.dispose()
        yield place.url("vault", user=APP_ROLE)


if __name__ == "__main__":
    raise SystemExit(main())
