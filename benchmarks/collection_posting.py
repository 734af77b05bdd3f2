"""Payments a second from HTTP to posted in Mifos X and texted.

    python -m benchmarks.collection_posting [--payments 3000] [--rate 50] [--workers 1] [--mifos-ms 0] [--json FILE]

The whole way of a customer's payment, with everything of the stack but Dagster: receiver, PostgreSQL with fsync on, Kafka, stream
workers with all their agents and jobs, and the sandbox as Mifos X and SMS gateway of 5 lenders over HTTP, a process of its own:
the account is found, the repayment posted, the new balance and the client read, the receipt texted. 200 running loans a lender.

- Flat out: `payments` as fast as the receiver takes them; a second are counted from the first arrival to the last text that the
  gateway took. The aim is 500 a second on two cores.
- Steady: a quarter as many at `rate` a second; from arrival to the posting that is known to stand in Mifos X, and to the text.

The ceiling is the least that the outside asks for: the requests that the sandbox has counted for a payment, made by the product's
HTTP client alone with 64 in flight and nothing behind it.
"""

import asyncio
import base64
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from sqlalchemy import text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.bench_stack import BenchStack, start_bench_stack
from benchmarks.parts.customer_payments import CustomerPayments
from benchmarks.parts.latencies import percentile
from benchmarks.parts.lenders import ACTIVE, Lender, lenders, take_in
from benchmarks.parts.post_load import post_each
from benchmarks.parts.process_usage import UsageWatch, own_children, usage_figures
from vault_core.clients.http_exchange import Answer, exchange
from vault_core.clock import NAIROBI
from vault_core.http_pool import PooledClient
from vault_core.partners.callback_urls import callback_url
from vault_core.runtime import Runtime, open_runtime

NAME = "collection_posting"
AIM = 500.0
LENDERS, LOANS = 5, 200
_WARMING = 200
_LARGEST = 40  # shillings: no loan is paid off meanwhile
_PATIENCE = 300.0
_IN_FLIGHT = 64
_LOGIN = {
    "Authorization": f"Basic {base64.b64encode(b'mifos:password').decode()}",
    "Fineract-Platform-TenantId": "default",
    "Content-Type": "application/json",
}
_TOLD = text("SELECT count(*) FROM messages WHERE template = 'payment_received' AND state = 'accepted'")
_SPANS = text(
    """
    SELECT extract(epoch FROM e.received_at)::float8 AS came, extract(epoch FROM e.processed_at)::float8 AS booked,
           extract(epoch FROM p.posted_at)::float8 AS posted, extract(epoch FROM m.accepted_at)::float8 AS told
    FROM collections c JOIN inbound_events e ON e.id = c.event_id
    LEFT JOIN core_postings p ON p.subject_id = c.id AND p.state = 'posted'
    LEFT JOIN messages m ON m.business_key = 'receipt:' || c.short_code || ':' || c.receipt
    ORDER BY e.received_at, e.id
    """
)


@dataclass(frozen=True, slots=True)
class Span:
    """When one payment came, was booked, stood in Mifos X, and was told, in epoch seconds."""

    came: float
    booked: float
    posted: float
    told: float


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--payments", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=50.0, help="payments a second of the steady turn")
    parser.add_argument("--workers", type=int, default=1, help="stream workers")
    parser.add_argument("--mifos-ms", type=int, default=0, help="what Mifos X thinks before it answers a write")
    options = parser.parse_args()
    with start_bench_stack() as stack:
        figures, ratios = asyncio.run(_measure(stack, options.payments, options.rate, options.workers, options.mifos_ms))
    publish(NAME, figures, ratios, options.json)


async def _measure(
    stack: BenchStack, payments: int, rate: float, workers: int, mifos_ms: int
) -> tuple[list[Figure], list[Ratio]]:
    async with AsyncExitStack() as block:
        runtime = await block.enter_async_context(open_runtime(stack.settings()))
        source = await _lenders(runtime, stack, mifos_ms)
        for number in range(1, workers + 1):
            await block.enter_async_context(stack.working(f"worker-{number}"))
        await _send(stack, source.requests(_WARMING))
        await _until_told(runtime, _WARMING)
        watch, calls_before = UsageWatch(own_children), await _calls(runtime, stack)
        await _send(stack, source.requests(payments))
        await _until_told(runtime, _WARMING + payments)
        used, calls = watch.look(), await _calls(runtime, stack)
        await _send(stack, source.requests(payments // 4), rate)
        await _until_told(runtime, _WARMING + payments + payments // 4)
        watch.look()
        spans = await _spans(runtime)
    flat_out, steady = spans[_WARMING : _WARMING + payments], spans[_WARMING + payments :]
    asked = {name: calls[name] - calls_before.get(name, 0) for name in calls if calls[name] > calls_before.get(name, 0)}
    bare = await _bare(stack, payments)
    seconds = max(span.told for span in flat_out) - min(span.came for span in flat_out)
    figures = [
        Figure("flat out: posted and told", payments / seconds, "1/s"),
        Figure("flat out: posted", payments / (max(s.posted for s in flat_out) - min(s.came for s in flat_out)), "1/s"),
        Figure("flat out: booked", payments / (max(s.booked for s in flat_out) - min(s.came for s in flat_out)), "1/s"),
        *(Figure(f"flat out: {name} a payment", count / payments, "requests") for name, count in sorted(asked.items())),
        Figure("steady: rate", rate, "1/s"),
        *_waits("to booked", [span.booked - span.came for span in steady]),
        *_waits("to posted in Mifos X", [span.posted - span.came for span in steady]),
        *_waits("to text taken", [span.told - span.came for span in steady]),
        Figure("bare: repayment, loan, client and text", bare, "1/s"),
        Figure("payments", payments, "payments"),
        Figure("stream workers", workers, "processes"),
        Figure("Mifos X thinks", mifos_ms, "ms"),
        *usage_figures(used, watch.peaks(), per=payments, what="payment", seconds=seconds),
    ]
    ratios = [
        Ratio("posted and told", payments / seconds / AIM, f"the aim of {AIM:.0f}/s"),
        Ratio("posted and told", payments / seconds / bare, "bare requests of the same client"),
    ]
    return figures, ratios


async def _lenders(runtime: Runtime, stack: BenchStack, mifos_ms: int) -> CustomerPayments:
    partners = await take_in(runtime, stack.sandbox_url, lenders(LENDERS), [(LOANS, ACTIVE)], {"mifos_latency_ms": mifos_ms})
    places = [(partner.c2b_short_code, callback_url(runtime, partner.id, "c2b_confirmation")) for partner in partners]
    accounts = [f"{number:09d}" for number in range(1, LOANS + 1)]
    return CustomerPayments(places, accounts, runtime.clock.now().astimezone(NAIROBI), most=_LARGEST)


async def _send(stack: BenchStack, requests: Sequence[bytes], rate: float | None = None) -> None:
    load = await asyncio.to_thread(post_each, stack.port, requests, connections=32, rate=rate)
    if load.refused:
        raise SystemExit(f"{load.refused} payments were not acknowledged: the figures are worth nothing")


async def _until_told(runtime: Runtime, wanted: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        async with runtime.engine.connect() as connection:
            seen = (await connection.execute(_TOLD)).scalar_one()
        if seen >= wanted:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_PATIENCE:.0f} s {seen} of {wanted} payments are told")
        await asyncio.sleep(0.25)


async def _spans(runtime: Runtime) -> list[Span]:
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_SPANS)).all()
    if any(row.posted is None or row.told is None for row in rows):
        raise SystemExit("a payment was not posted or not told: the figures are worth nothing")
    return [Span(row.came, row.booked, row.posted, row.told) for row in rows]


async def _calls(runtime: Runtime, stack: BenchStack) -> dict[str, int]:
    """What the sandbox was asked so far, by kind."""
    answer: Any = orjson.loads((await runtime.http.get(f"{stack.sandbox_url}/truth/summary", timeout=60)).content)
    return dict(answer["calls"])


async def _bare(stack: BenchStack, payments: int) -> float:
    """Payments a second that the product's HTTP client makes of the four requests that no payment can do without."""
    async with PooledClient(timeout=30) as http:
        todo = iter([(lender, number) for number in range(payments // LENDERS) for lender in lenders(LENDERS)])

        async def worker() -> None:
            for lender, number in todo:
                await _pay_bare(http, stack.sandbox_url, lender, number)

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
        return payments / (time.perf_counter() - started)


async def _pay_bare(http: PooledClient, sandbox_url: str, lender: Lender, number: int) -> None:
    loan = 1 + number % LOANS
    mifos = f"{sandbox_url}/mifos/{lender.name}/fineract-provider/api/v1"
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 3 * 3600))
    repayment = {"transactionDate": day, "transactionAmount": "10", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    await _asked(http, "POST", f"{mifos}/loans/{loan}/transactions?command=repayment", repayment)
    await _asked(http, "GET", f"{mifos}/loans/{loan}")
    await _asked(http, "GET", f"{mifos}/clients/{loan}")
    await exchange(http, "POST", f"{sandbox_url}/airtouch/sms/api/", timeout=30, content=orjson.dumps({"username": "sim"}))


async def _asked(http: PooledClient, method: str, url: str, body: dict[str, str] | None = None) -> None:
    content = None if body is None else orjson.dumps(body)
    done = await exchange(http, method, url, timeout=30, headers=_LOGIN, content=content)
    if not isinstance(done, Answer) or done.status != httpx.codes.OK:
        raise SystemExit(f"{method} {url}: {done}"[:500])


def _waits(name: str, waits: Sequence[float]) -> list[Figure]:
    return [
        Figure(f"steady: {name}, half", percentile(waits, 0.5) * 1000, "ms"),
        Figure(f"steady: {name}, 99 %", percentile(waits, 0.99) * 1000, "ms"),
    ]


if __name__ == "__main__":
    main()
