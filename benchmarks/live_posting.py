"""Disbursements a second posted to a running Mifos X, against bare clients on the same server before and after.

    python -m benchmarks.live_posting --mifos URL [--mifos-user USER] [--mifos-tenant TENANT] [--loans 200] [--json FILE]

The server must be one for tests: people and loans are made in it. What is not given is taken from VAULT_TEST_MIFOS_URL, _USER,
_TENANT and _PASSWORD; without an address nothing is measured, and nothing fails.

Measured is the whole way of the running stack: the sandbox's M-Pesa pays all loans while the stream worker is away, the results
wait in the inbox, the worker comes, and the time from its first call to the last answer counts. The ceiling is the best rate of 4
and of 8 bare clients, taken with nothing of ours running.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import httpx
from rich.console import Console
from sqlalchemy import TextClause, text

from benchmarks.parts.bare_disburser import BareDisburser, BareRate
from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from local_stack import stack
from local_stack.demo.acts import Outside, take_in_lender
from local_stack.demo.day_plan import DayPlan, Found, PlannedPartner
from local_stack.demo.live_lender import LiveLender, Span
from local_stack.demo.live_office import LiveMifos, Office
from local_stack.demo.live_plan import plan_live
from local_stack.demo.world import sandbox_world
from tests.private_stack import DAGSTER, PrivateStack, start_private_stack
from vault_core.clock import business_day
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.sending import send_batch
from vault_core.errors import Unreachable
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import read_settings

BAR = 0.9
_WORKER = "worker-1"
_WARMING = 40  # disbursements by which a server that has just started gets up to speed
_LONGEST = 240.0
_RESULTS_WAITING = text("SELECT count(*) FROM inbound_events WHERE state = 'stored'")
_POSTED = text("SELECT count(*) FROM core_postings WHERE state = 'posted'")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--mifos", default=os.environ.get("VAULT_TEST_MIFOS_URL"))
    parser.add_argument("--mifos-user", default=os.environ.get("VAULT_TEST_MIFOS_USER", "mifos"))
    parser.add_argument("--mifos-tenant", default=os.environ.get("VAULT_TEST_MIFOS_TENANT", "default"))
    parser.add_argument("--loans", type=int, default=200)
    options = parser.parse_args()
    if not options.mifos:
        Console().print("live_posting: skipped, no server is given (--mifos or VAULT_TEST_MIFOS_URL)", highlight=False)
        publish("live_posting", [], [], options.json)
        return 0
    password = os.environ.get("VAULT_TEST_MIFOS_PASSWORD", "password")
    server = LiveMifos(options.mifos.rstrip("/"), options.mifos_tenant, options.mifos_user, password, options.loans)
    span, ceilings = asyncio.run(_measure(server))
    mean = sum(each.per_second for each in ceilings) / len(ceilings)
    figures = [
        Figure("posted by Payment Vault", span.per_second, "1/s"),
        *(Figure(f"bare, {each.clients} clients, {when}", each.per_second, "1/s")
          for when, each in zip(("before", "after"), ceilings, strict=True)),
        Figure("calls beyond the first", span.calls_again, "calls"),
        Figure("loans", span.postings, "loans"),
    ]  # fmt: skip
    publish("live_posting", figures, [Ratio("rate", span.per_second / mean, "bare clients, mean of both turns")], options.json)
    return 0 if span.per_second >= BAR * mean else 1


async def _measure(server: LiveMifos) -> tuple[Span, list[BareRate]]:
    day, run = business_day(datetime.now(UTC)), int(time.time() * 10)
    async with httpx.AsyncClient() as http:
        lender = LiveLender(server, _by_poll(plan_live(1, run, server.loans)), Office(server, http), day)
        await lender.open()
        bare, loans = await _bare(server, http, day, run + 10_000_000)
        await asyncio.to_thread(bare.rate, loans[:_WARMING], 4)
        ceilings = [await asyncio.to_thread(bare.best, loans[_WARMING::2])]
        span = await asyncio.to_thread(_post_with_the_stack, lender)
        ceilings.append(await asyncio.to_thread(bare.best, loans[_WARMING + 1 :: 2]))
    return span, ceilings


async def _bare(
    server: LiveMifos, http: httpx.AsyncClient, day: date, run: int
) -> tuple[BareDisburser, Sequence[tuple[int, int]]]:
    planned = _by_poll(plan_live(2, run, 2 * server.loans + _WARMING))
    office = Office(server, http)
    await office.open(planned, day)
    return BareDisburser(server, day), [(office.loan_id(loan.number), loan.principal) for loan in planned.approved]


def _by_poll(planned: PlannedPartner) -> PlannedPartner:
    """Approved loans only, all of them before anything is measured."""
    loans = tuple(replace(loan, found=Found.POLL) for loan in planned.approved)
    return replace(planned, loans=loans, savings=(), payments=())


def _post_with_the_stack(lender: LiveLender) -> Span:
    with start_private_stack(sandbox=True, without=DAGSTER | {_WORKER}) as running:
        return asyncio.run(_post(running, lender))


async def _post(running: PrivateStack, lender: LiveLender) -> Span:
    async with open_runtime(read_settings(running.environment)) as runtime:
        await _pay_all(runtime, running.sandbox_url, lender)
        await _until(runtime, _RESULTS_WAITING, len(lender.planned.approved), "results in the inbox")
        await asyncio.to_thread(stack.up, running.home, running.given, sandbox=True, without=DAGSTER)
        await _until(runtime, _POSTED, len(lender.planned.approved), "postings")
        await Office(lender.server, runtime.http).take_down_hooks(runtime.public_url)
        return await lender.span(runtime)


async def _pay_all(runtime: Runtime, sandbox_url: str, lender: LiveLender) -> None:
    connections = Connections(runtime)
    outside = Outside(sandbox_url, runtime.http)
    await outside.pull("setup", sandbox_world(DayPlan(1, (lender.planned,)), lender.day, runtime.clock.now().isoformat()))
    await take_in_lender(runtime, connections, lender.planned, sandbox_url, lender.server)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET next_poll_at = :now"), {"now": runtime.clock.now()})
    (poll,) = await poll_due(runtime, connections)
    reports = [await send_batch(runtime, connections, batch.id) for batch in await form_batches(runtime)]
    await connections.aclose()
    if poll.error or sum(report.accepted for report in reports) != len(lender.planned.approved):
        raise SystemExit(f"not all loans were paid: {poll}, {reports}")


async def _until(runtime: Runtime, count: TextClause, wanted: int, what: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        async with runtime.engine.connect() as connection:
            seen = (await connection.execute(count)).scalar_one()
        if seen >= wanted:
            return
        await asyncio.sleep(0.2)
    raise Unreachable(f"{seen} of {wanted} {what} after {_LONGEST:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
