"""Disbursements a second posted to a running Mifos X, against bare clients on the same server before and after.

    python -m benchmarks.live_posting --mifos URL [--mifos-user USER] [--mifos-tenant TENANT] [--loans N] [--apart] [--json FILE]

The server must be one for tests: people and loans are made in it. What is not given is taken from VAULT_TEST_MIFOS_URL, _USER,
_TENANT and _PASSWORD; without an address nothing is measured, and nothing fails.

Measured is the whole way of a running stack: all loans are paid by the sandbox's M-Pesa, then all results are told at once, and
the time from the first call to the last answer counts. The ceiling is the best rate of 4 and of 8 bare clients, taken with
nothing of ours running. With --apart the server has the lower half of the cores for itself, in all turns, and we and the bare
clients have the rest; how busy it was tells then who holds up whom, also while the machine itself gets faster or slower. What a
posting took is printed beside it: requests to Mifos X by kind, processor time by process.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson
from rich.console import Console
from sqlalchemy import TextClause, text

from benchmarks.parts.bare_disburser import BareDisburser, BareRate
from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.bench_stack import BenchStack, start_bench_stack
from benchmarks.parts.customer_payments import http_post
from benchmarks.parts.own_cores import apart
from benchmarks.parts.payout_results import result_bodies
from benchmarks.parts.post_load import post_each
from benchmarks.parts.process_usage import Roots, UsageWatch, own_children, server_at
from local_stack.demo.acts import Outside, take_in_lender
from local_stack.demo.day_plan import DayPlan, Found, PlannedPartner
from local_stack.demo.live_lender import LiveLender, Span
from local_stack.demo.live_office import LiveMifos, Office
from local_stack.demo.live_plan import plan_live
from local_stack.demo.world import sandbox_world
from vault_core.clock import business_day
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.sending import send_batch
from vault_core.errors import Unreachable
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime

BAR = 0.9
_COUNTING = "benchmarks.parts.counted_worker"
_WARMING = 40  # disbursements by which a server that has just started gets up to speed
_NO_RESULTS = 3_600_000  # ms: the sandbox tells none while we measure; the benchmark does
_LONGEST = 240.0
_LOOK_EVERY = 0.2
_MIRRORED = text("SELECT count(*) FROM mifos_mirrors WHERE read_at IS NOT NULL")
_ATTEMPTS = text("SELECT id, partner_id, originator_conversation_id AS originator FROM disbursement_attempts")
_POSTED = text("SELECT count(*) FROM core_postings WHERE state = 'posted'")


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """The best rate of bare clients, and how many cores the server was busy with meanwhile."""

    rate: BareRate
    busy: float


@dataclass(frozen=True, slots=True)
class _Run:
    """What our turn was: its span, what was asked of Mifos X meanwhile, and processor seconds by process."""

    span: Span
    asked: Mapping[str, int]
    used: Mapping[str, float]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--mifos", default=os.environ.get("VAULT_TEST_MIFOS_URL"))
    parser.add_argument("--mifos-user", default=os.environ.get("VAULT_TEST_MIFOS_USER", "mifos"))
    parser.add_argument("--mifos-tenant", default=os.environ.get("VAULT_TEST_MIFOS_TENANT", "default"))
    parser.add_argument("--loans", type=int, default=200)
    parser.add_argument("--apart", action="store_true", help="the server on cores of its own")
    options = parser.parse_args()
    if not options.mifos:
        Console().print("live_posting: skipped, no server is given (--mifos or VAULT_TEST_MIFOS_URL)", highlight=False)
        publish("live_posting", [], [], options.json)
        return 0
    password = os.environ.get("VAULT_TEST_MIFOS_PASSWORD", "password")
    server = LiveMifos(options.mifos.rstrip("/"), options.mifos_tenant, options.mifos_user, password, options.loans)
    with apart(_server_processes(server)) if options.apart else nullcontext():
        run, ceilings = asyncio.run(_measure(server))
    span, mean = run.span, sum(each.rate.per_second for each in ceilings) / len(ceilings)
    taken = sum(run.used.get(name, 0.0) for name in _server_processes(server)) / span.postings
    figures = [
        Figure("posted by Payment Vault", span.per_second, "1/s"),
        *(Figure(f"bare, {each.rate.clients} clients, {when}", each.rate.per_second, "1/s")
          for when, each in zip(("before", "after"), ceilings, strict=True)),
        Figure("server busy with it", span.per_second * taken * 100, "% of one core"),
        *(Figure(f"server busy, bare, {when}", each.busy * 100, "% of one core")
          for when, each in zip(("before", "after"), ceilings, strict=True)),
        Figure("calls beyond the first", span.calls_again, "calls"),
        Figure("loans", span.postings, "loans"),
        *(Figure(kind, count / span.postings, "requests a posting") for kind, count in sorted(run.asked.items())),
        *(Figure(f"processor time of {name}", seconds / span.postings * 1000, "ms a posting")
          for name, seconds in sorted(run.used.items(), key=lambda item: -item[1])),
    ]  # fmt: skip
    publish("live_posting", figures, [Ratio("rate", span.per_second / mean, "bare clients, mean of both turns")], options.json)
    return 0 if span.per_second >= BAR * mean else 1


async def _measure(server: LiveMifos) -> tuple[_Run, list[_Ceiling]]:
    day, run = business_day(datetime.now(UTC)), int(time.time() * 10)
    async with httpx.AsyncClient() as http:
        lender = LiveLender(server, _by_poll(plan_live(1, run, server.loans)), Office(server, http), day)
        await lender.open()
        bare, loans = await _bare(server, http, day, run + 10_000_000)
        await asyncio.to_thread(bare.rate, loans[:_WARMING], 4)
        before = await asyncio.to_thread(_ceiling, server, bare, loans[_WARMING::2])
        ours = await asyncio.to_thread(_post_with_the_stack, lender)
        after = await asyncio.to_thread(_ceiling, server, bare, loans[_WARMING + 1 :: 2])
    return ours, [before, after]


def _ceiling(server: LiveMifos, bare: BareDisburser, loans: Sequence[tuple[int, int]]) -> _Ceiling:
    watch = UsageWatch(lambda: _server_processes(server))
    started = time.perf_counter()
    best = bare.best(loans)
    return _Ceiling(best, sum(watch.look().values()) / (time.perf_counter() - started))


async def _bare(
    server: LiveMifos, http: httpx.AsyncClient, day: date, run: int
) -> tuple[BareDisburser, Sequence[tuple[int, int]]]:
    planned = _by_poll(plan_live(2, run, 2 * server.loans + _WARMING))
    office = Office(server, http)
    await office.open(planned, day)
    return BareDisburser(server, day), [(office.id_of("loan", loan.number), loan.principal) for loan in planned.approved]


def _by_poll(planned: PlannedPartner) -> PlannedPartner:
    """Approved loans only, all of them before anything is measured."""
    loans = tuple(replace(loan, found=Found.POLL) for loan in planned.approved)
    return replace(planned, loans=loans, savings=(), payments=())


def _post_with_the_stack(lender: LiveLender) -> _Run:
    with start_bench_stack() as running:
        running.environment["BENCH_REQUESTS_FILE"] = str(running.folder / "requests.json")
        return asyncio.run(_post(running, lender))


async def _post(running: BenchStack, lender: LiveLender) -> _Run:
    async with open_runtime(running.settings()) as runtime, running.working(app=_COUNTING):
        loans = len(lender.planned.approved)
        await _take_in(runtime, running.sandbox_url, lender)
        try:
            await _until(runtime, _MIRRORED, 1, "account mirrors")
            await _pay_all(runtime, lender)
            results = await _results(runtime, running.sandbox_url, lender)
            roots = _processes(lender.server)
            watch, asked = UsageWatch(lambda: roots), _asked(running)
            told = await asyncio.to_thread(post_each, running.port, results, connections=8)
            if told.refused:
                raise SystemExit(f"{told.refused} results were not acknowledged")
            await _until(runtime, _POSTED, loans, "postings")
            used, asked_then = watch.look(), _asked(running)
        finally:
            await Office(lender.server, runtime.http).take_down_hooks(runtime.public_url)
        new = {kind: count - asked.get(kind, 0) for kind, count in asked_then.items() if count > asked.get(kind, 0)}
        return _Run(await lender.span(runtime), new, used)


def _processes(server: LiveMifos) -> Roots:
    return {**own_children(), **_server_processes(server)}


def _server_processes(server: LiveMifos) -> Roots:
    """Those of the Mifos X that is measured; nothing if it stands on another machine."""
    place = urlsplit(server.url)
    return server_at(place.port or 0) if place.hostname in ("127.0.0.1", "localhost") else {}


def _asked(running: BenchStack) -> dict[str, int]:
    counts: dict[str, int] = orjson.loads(Path(running.environment["BENCH_REQUESTS_FILE"]).read_bytes())
    return counts


async def _take_in(runtime: Runtime, sandbox_url: str, lender: LiveLender) -> None:
    connections = Connections(runtime)
    world = sandbox_world(DayPlan(1, (lender.planned,)), lender.day, runtime.clock.now().isoformat())
    world["settings"]["result_delay_ms"] = _NO_RESULTS
    await Outside(sandbox_url, runtime.http).pull("setup", world)
    await take_in_lender(runtime, connections, lender.planned, sandbox_url, lender.server)
    await connections.aclose()


async def _pay_all(runtime: Runtime, lender: LiveLender) -> None:
    connections = Connections(runtime)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET next_poll_at = :now"), {"now": runtime.clock.now()})
    (poll,) = await poll_due(runtime, connections)
    reports = [await send_batch(runtime, connections, batch.id) for batch in await form_batches(runtime)]
    await connections.aclose()
    if poll.error or sum(report.accepted for report in reports) != len(lender.planned.approved):
        raise SystemExit(f"not all loans were paid: {poll}, {reports}")


async def _results(runtime: Runtime, sandbox_url: str, lender: LiveLender) -> list[bytes]:
    """The requests by which M-Pesa tells that each payout was paid."""
    bodies = result_bodies(await Outside(sandbox_url, runtime.http).truth(), [lender.planned.b2c_short_code])
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(_ATTEMPTS)
        addresses = {row.originator: callback_url(runtime, row.partner_id, "b2c_result", row.id.hex) for row in rows}
    return [http_post(urlsplit(addresses[originator]).path, body) for originator, (_, body) in bodies.items()]


async def _until(runtime: Runtime, count: TextClause, wanted: int, what: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        async with runtime.engine.connect() as connection:
            seen = (await connection.execute(count)).scalar_one()
        if seen >= wanted:
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise Unreachable(f"{seen} of {wanted} {what} after {_LONGEST:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
