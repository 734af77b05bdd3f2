"""How long a loan waits for us: from its web hook to its B2C request, and from its result to Mifos X.

    python -m benchmarks.disbursement_latency [--hooks 20] [--results 100] [--seconds 20] [--latency-ms 50] [--json FILE]

Both are taken at a steady rate on the way of the stack: receiver, Kafka, one stream worker, PostgreSQL with fsync on; the sandbox
is Mifos X, M-Pesa and SMS gateway of 5 lenders over HTTP, a process of its own. Nothing is polled and no Dagster runs.

- Hooks: `hooks` loans a second are approved in Mifos X for `seconds`. Counted is from `inbound_events.received_at` of the hook to
  the moment at which M-Pesa has the request: when the sandbox took it into its books, less its stated thinking time. The loan is
  read twice, the client once, and charges are held in between. The bar is 1 s at 99 %.
- Results: payouts that M-Pesa had taken before are told to the receiver at `results` a second for `seconds`. Counted is from
  `received_at` of the result to when its posting is known to stand in Mifos X (`core_postings.posted_at`, its answer recorded);
  ledger and texts follow. The bar is 2 s at 99 %.

The first two seconds of each are left out: connections open and code is met for the first time. Processor time and memory are of
the whole of each part.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import TextClause, text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.bench_stack import BenchStack, start_bench_stack
from benchmarks.parts.customer_payments import http_post
from benchmarks.parts.latencies import percentile
from benchmarks.parts.lenders import APPROVED, SUBMITTED, Lender, lenders, take_in
from benchmarks.parts.payout_results import result_bodies
from benchmarks.parts.post_load import post_each
from benchmarks.parts.process_usage import UsageWatch, own_children, usage_figures
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.sending import send_batch
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.partners.url_registration import ensure_mifos_hook
from vault_core.runtime import Runtime, open_runtime

NAME = "disbursement_latency"
HOOK_BAR, RESULT_BAR = 1.0, 2.0
LENDERS = 5
_LEFT_OUT = 2.0
_PATIENCE = 120.0
_NO_RESULTS = 3_600_000  # milliseconds
_HOOKED = text(
    """
    SELECT extract(epoch FROM e.received_at)::float8 AS came, extract(epoch FROM a.written_at)::float8 AS written,
           a.originator_conversation_id AS originator
    FROM inbound_events e
    JOIN disbursements d ON d.partner_id = e.partner_id AND e.effect = 'loan ' || d.loan_id || ': taken in'
    JOIN disbursement_attempts a ON a.disbursement_id = d.id
    WHERE e.purpose = 'mifos_hook' ORDER BY e.received_at
    """
)
_TOLD = text(
    """
    SELECT extract(epoch FROM e.received_at)::float8 AS came, extract(epoch FROM e.processed_at)::float8 AS settled,
           extract(epoch FROM p.posted_at)::float8 AS posted
    FROM inbound_events e JOIN disbursement_attempts a ON a.id = CAST(e.path_reference AS uuid)
    JOIN core_postings p ON p.kind = 'disburse' AND p.subject_id = a.disbursement_id
    WHERE e.purpose = 'b2c_result' ORDER BY e.received_at
    """
)
_SENT = text("SELECT count(*) FROM disbursement_attempts WHERE state = 'accepted'")
_POSTED = text("SELECT count(*) FROM core_postings WHERE state = 'posted'")
_ATTEMPTS = text("SELECT originator_conversation_id, id FROM disbursement_attempts")


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of each, whole and of its first part."""

    whole: Sequence[float]
    first_part: Sequence[float]
    figures: Sequence[Figure]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--hooks", type=float, default=20.0, help="approvals a second")
    parser.add_argument("--results", type=float, default=100.0, help="results a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    parser.add_argument("--latency-ms", type=int, default=50, help="what the B2C gateway thinks before it answers")
    options = parser.parse_args()
    with start_bench_stack(VAULT_B2C_PER_SECOND="1000") as stack:
        hooks, results = asyncio.run(_measure(stack, options.hooks, options.results, options.seconds, options.latency_ms))
    figures = [
        Figure("hooks", options.hooks, "1/s"),
        *_figures("hook received to B2C request sent", hooks.whole),
        *_figures("of it: to the instruction written", hooks.first_part),
        *hooks.figures,
        Figure("results", options.results, "1/s"),
        *_figures("result received to posted in Mifos X", results.whole),
        *_figures("of it: to settled and booked", results.first_part),
        *results.figures,
    ]
    ratios = [
        Ratio("hook to request, 99 %", percentile(hooks.whole, 0.99) / HOOK_BAR, f"the bar of {HOOK_BAR:.0f} s"),
        Ratio("result to Mifos X, 99 %", percentile(results.whole, 0.99) / RESULT_BAR, f"the bar of {RESULT_BAR:.0f} s"),
    ]
    publish(NAME, figures, ratios, options.json)


async def _measure(stack: BenchStack, hooks: float, results: float, seconds: float, latency_ms: int) -> tuple[Waits, Waits]:
    of = lenders(LENDERS)
    submitted, approved = int(hooks * seconds / LENDERS), int(results * seconds / LENDERS)
    settings = {"b2c_latency_ms": latency_ms, "result_delay_ms": _NO_RESULTS}
    async with AsyncExitStack() as block:
        runtime = await block.enter_async_context(open_runtime(stack.settings()))
        connections = Connections(runtime)
        block.push_async_callback(connections.aclose)
        partners = await take_in(runtime, stack.sandbox_url, of, [(submitted, SUBMITTED), (approved, APPROVED)], settings)
        for partner in partners:
            await ensure_mifos_hook(runtime, connections, partner, actor="ops:bench")
        await _pay_ahead(runtime, connections, approved * LENDERS)
        bodies = result_bodies(await _truth(runtime, stack), [lender.b2c for lender in of])
        await block.enter_async_context(stack.working())
        hooked = await _hooks(runtime, stack, of, submitted, hooks, latency_ms)
        told = await _results(runtime, stack, partners, bodies, results)
    return hooked, told


async def _pay_ahead(runtime: Runtime, connections: Connections, wanted: int) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET next_poll_at = :now"), {"now": runtime.clock.now()})
    polls = await poll_due(runtime, connections)
    sent = [await send_batch(runtime, connections, batch.id) for batch in await form_batches(runtime)]
    if sum(report.accepted for report in sent) != wanted:
        raise SystemExit(f"not all loans were paid: {polls}, {sent}")


async def _hooks(runtime: Runtime, stack: BenchStack, of: Sequence[Lender], each: int, rate: float, latency_ms: int) -> Waits:
    before = await _count(runtime, _SENT)
    watch, began = UsageWatch(own_children), time.monotonic()
    for number in range(each * len(of)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        wish = {"host": of[number % len(of)].name, "loans": [1 + number // len(of)]}
        (await runtime.http.post(f"{stack.sandbox_url}/control/approve", json=wish)).raise_for_status()
    await _until(runtime, _SENT, before + each * len(of), "B2C requests")
    used, seconds = watch.look(), time.monotonic() - began
    codes = (await _truth(runtime, stack))["mpesa"]["short_codes"]
    taken = {
        row["originator_conversation_id"]: datetime.fromisoformat(row["at"]).astimezone(UTC).timestamp()
        for lender in of
        for row in codes[lender.b2c]["b2c"]
    }
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_HOOKED)).all()
    counted = [row for row in rows if row.came >= rows[0].came + _LEFT_OUT]
    figures = usage_figures(used, watch.peaks(), per=each * len(of), what="hook", seconds=seconds)
    return Waits(
        [taken[row.originator] - latency_ms / 1000 - row.came for row in counted],
        [row.written - row.came for row in counted],
        figures,
    )


async def _results(
    runtime: Runtime, stack: BenchStack, partners: Sequence[Partner], bodies: dict[str, tuple[str, bytes]], rate: float
) -> Waits:
    async with runtime.engine.connect() as connection:
        ids = {row.originator_conversation_id: row.id for row in await connection.execute(_ATTEMPTS)}
    partner_of = {partner.b2c_short_code: partner for partner in partners}
    requests = []
    for originator, (short_code, body) in bodies.items():
        address = callback_url(runtime, partner_of[short_code].id, "b2c_result", ids[originator].hex)
        requests.append(http_post(urlsplit(address).path, body))
    watch, began = UsageWatch(own_children), time.monotonic()
    load = await asyncio.to_thread(post_each, stack.port, requests, connections=16, rate=rate)
    if load.refused:
        raise SystemExit(f"{load.refused} results were not acknowledged")
    await _until(runtime, _POSTED, len(requests), "postings")
    used, seconds = watch.look(), time.monotonic() - began
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_TOLD)).all()
    counted = [row for row in rows if row.came >= rows[0].came + _LEFT_OUT]
    figures = usage_figures(used, watch.peaks(), per=len(requests), what="result", seconds=seconds)
    return Waits([row.posted - row.came for row in counted], [row.settled - row.came for row in counted], figures)


def _figures(name: str, waits: Sequence[float]) -> list[Figure]:
    return [
        Figure(f"{name}, half", percentile(waits, 0.5) * 1000, "ms"),
        Figure(f"{name}, 99 %", percentile(waits, 0.99) * 1000, "ms"),
    ]


async def _truth(runtime: Runtime, stack: BenchStack) -> Any:
    return orjson.loads((await runtime.http.get(f"{stack.sandbox_url}/truth", timeout=60)).content)


async def _until(runtime: Runtime, count: TextClause, wanted: int, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (seen := await _count(runtime, count)) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_PATIENCE:.0f} s {seen} of {wanted} {what}")
        await asyncio.sleep(0.2)


async def _count(runtime: Runtime, count: TextClause) -> int:
    async with runtime.engine.connect() as connection:
        found: int = (await connection.execute(count)).scalar_one()
        return found


if __name__ == "__main__":
    main()
