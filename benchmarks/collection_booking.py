"""Payments a second from HTTP to booked in the ledger, through a real Kafka.

    python -m benchmarks.collection_booking [--payments 20000] [--rate 1000] [--connections 64] [--poison 100] [--json FILE]

Measured is the way of a C2B confirmation from the receiver's port to its commit: stored sealed and acknowledged, published to
Kafka, taken by one Faust worker, booked with its rail line, its ledger postings, its charges and the call that will post it to
Mifos X. That call is not made here (collection_posting has it): the worker runs the confirmations' agent alone. Of 5 lenders.

- Flat out: `payments` as fast as the receiver acknowledges them, the worker beside it on the same cores. Payments a second are
  counted from the first delivery's arrival to the last one's commit.
- Steady: half as many at `rate` a second; the lag from arrival to commit, and the most payments that waited at once.
- Steady with poison: the same, where every `poison`-th body is no payment. Each must be set aside by itself and every other
  booked once; the ratio says what it costs them.

Two ceilings stand beside it: the receiver alone (as many bodies at a purpose that nobody takes), and the ledger alone (the
postings of half as many payments, in batches as large, by one connection with nothing else running). The aim is 2,000 payments a
second on two cores. Processor time is of the flat-out turn.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.bench_stack import BenchStack, start_bench_stack
from benchmarks.parts.customer_payments import CustomerPayments, receipt
from benchmarks.parts.latencies import most_waiting, percentile
from benchmarks.parts.lenders import ACTIVE, lenders, take_in
from benchmarks.parts.post_load import Measured, post_each
from benchmarks.parts.process_usage import UsageWatch, own_children, usage_figures
from vault_core.clock import NAIROBI
from vault_core.collections.charging import ToCharge, price_collections
from vault_core.database import in_transaction
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime, open_runtime
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE

NAME = "collection_booking"
AIM = 2_000.0
LENDERS = 5
_WARMING = 1_000
_PATIENCE = 300.0
_WORKER_APP = "benchmarks.parts.booking_worker"
_WAITING = text("SELECT count(*) FROM inbound_events WHERE purpose = 'c2b_confirmation' AND state = 'stored'")
_SINCE = text(
    """
    SELECT extract(epoch FROM received_at)::float8 AS came, extract(epoch FROM processed_at)::float8 AS went, state
    FROM inbound_events WHERE purpose = 'c2b_confirmation' AND received_at >= :since ORDER BY id
    """
)
_BOOKED = text(
    """
    SELECT (SELECT count(*) FROM collections) AS rows, (SELECT count(*) FROM rail_lines) AS rail,
           (SELECT count(*) FROM ledger_transactions WHERE kind = 'collection' AND key NOT LIKE 'alone:%') AS postings,
           (SELECT count(*) FROM outbox) AS calls, (SELECT count(*) FROM cases) AS cases
    """
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the deliveries' arrivals and commits (epoch seconds), and how many were set aside."""

    load: Measured
    spans: Sequence[tuple[float, float]]
    set_aside: int

    @property
    def rate(self) -> float:
        """Deliveries a second, from the first arrival to the last commit."""
        return len(self.spans) / (max(went for _, went in self.spans) - min(came for came, _ in self.spans))

    def lag(self, share: float) -> float:
        """Seconds from arrival to commit that `share` of the deliveries do not exceed."""
        return percentile([went - came for came, went in self.spans], share)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--payments", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="payments a second of the steady turns")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--poison", type=int, default=100, help="every so-manyth body of the last turn is none")
    options = parser.parse_args()
    with start_bench_stack() as stack:
        figures, ratios = asyncio.run(_measure(stack, options.payments, options.rate, options.connections, options.poison))
    publish(NAME, figures, ratios, options.json)


async def _measure(
    stack: BenchStack, payments: int, rate: float, connections: int, poison: int
) -> tuple[list[Figure], list[Ratio]]:
    async with open_runtime(stack.settings()) as runtime:
        partners = await take_in(runtime, stack.sandbox_url, lenders(LENDERS), [(1, ACTIVE)], {})
        load = _Load(stack.port, connections)
        unused = _payments(runtime, partners, "sms_report").requests(payments)
        receiver_alone = (await load.post(unused)).rate
        ledger_alone = await _ledger_alone(runtime, partners, payments // 2)
        source = _payments(runtime, partners, "c2b_confirmation")
        watch = UsageWatch(own_children)
        async with stack.working(app=_WORKER_APP):
            since = time.time()
            warming = await _turn(runtime, await load.post(source.requests(_WARMING)), since)
            requests = source.requests(payments)
            watch.begin()
            since = time.time()
            flat_out = await _turn(runtime, await load.post(requests), since)
            used = watch.look()
            since = time.time()
            steady = await _turn(runtime, await load.post(source.requests(payments // 2), rate=rate), since)
            since = time.time()
            bad = await _turn(runtime, await load.post(source.requests(payments // 2, poison=poison), rate=rate), since)
            watch.look()
        await _require_each_booked_once(runtime, [warming, flat_out, steady, bad], expected_bad=payments // 2 // poison)
    seconds = len(flat_out.spans) / flat_out.rate
    figures = [
        Figure("flat out: payments booked", flat_out.rate, "1/s"),
        Figure("flat out: acknowledged meanwhile", flat_out.load.rate, "1/s"),
        Figure("flat out: lag, 99 %", flat_out.lag(0.99), "s"),
        Figure("flat out: waiting at most", most_waiting(flat_out.spans), "payments"),
        Figure("steady: rate", rate, "1/s"),
        Figure("steady: booked", steady.rate, "1/s"),
        Figure("steady: lag, half", steady.lag(0.5) * 1000, "ms"),
        Figure("steady: lag, 99 %", steady.lag(0.99) * 1000, "ms"),
        Figure("steady: waiting at most", most_waiting(steady.spans), "payments"),
        Figure("with poison: set aside", bad.set_aside, "deliveries"),
        Figure("with poison: lag of the others, half", bad.lag(0.5) * 1000, "ms"),
        Figure("with poison: lag of the others, 99 %", bad.lag(0.99) * 1000, "ms"),
        Figure("ceiling: receiver alone", receiver_alone, "1/s"),
        Figure("ceiling: ledger alone", ledger_alone, "1/s"),
        Figure("payments", payments, "payments"),
        *usage_figures(used, watch.peaks(), per=payments, what="payment", seconds=seconds),
    ]
    ratios = [
        Ratio("payments booked", flat_out.rate / AIM, f"the aim of {AIM:,.0f}/s"),
        Ratio("payments booked", flat_out.rate / receiver_alone, "the receiver alone"),
        Ratio("payments booked", flat_out.rate / ledger_alone, "the ledger alone"),
        Ratio("lag at 99 % with poison", bad.lag(0.99) / steady.lag(0.99), "the same without"),
    ]
    return figures, ratios


@dataclass(frozen=True, slots=True)
class _Load:
    port: int
    connections: int

    async def post(self, requests: Sequence[bytes], rate: float | None = None) -> Measured:
        """Posts each once, in a thread beside this loop."""
        return await asyncio.to_thread(post_each, self.port, requests, connections=self.connections, rate=rate)


def _payments(runtime: Runtime, partners: Sequence[Partner], purpose: str) -> CustomerPayments:
    places = [(partner.c2b_short_code, callback_url(runtime, partner.id, purpose)) for partner in partners]
    return CustomerPayments(places, ["000000001"], runtime.clock.now().astimezone(NAIROBI))


async def _turn(runtime: Runtime, load: Measured, since: float) -> Turn:
    """Waits until what was posted since then is worked off."""
    deadline = time.monotonic() + _PATIENCE
    while await _count(runtime):
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_PATIENCE:.0f} s {await _count(runtime)} payments are not booked yet")
        await asyncio.sleep(0.2)
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_SINCE, {"since": datetime.fromtimestamp(since - 0.001, UTC)})).all()
    if load.refused:
        raise SystemExit(f"{load.refused} payments were not acknowledged: the figures are worth nothing")
    processed = [row for row in rows if row.state == "processed"]
    return Turn(load, [(row.came, row.went) for row in processed], len(rows) - len(processed))


async def _count(runtime: Runtime) -> int:
    async with runtime.engine.connect() as connection:
        found: int = (await connection.execute(_WAITING)).scalar_one()
        return found


async def _ledger_alone(runtime: Runtime, partners: Sequence[Partner], payments: int) -> float:
    """Payments a second whose postings, money and charges, are posted with nothing around them."""
    postings = await _postings(runtime, partners, payments)
    started = time.perf_counter()
    for start in range(0, payments, DELIVERIES_AT_ONCE):
        batch = [posting for pair in postings[start : start + DELIVERIES_AT_ONCE] for posting in pair]

        async def work(connection: AsyncConnection, batch: Sequence[Posting] = batch) -> None:
            await post(connection, runtime, batch)

        await in_transaction(runtime.engine, work)
    return payments / (time.perf_counter() - started)


async def _postings(runtime: Runtime, partners: Sequence[Partner], payments: int) -> list[list[Posting]]:
    now = runtime.clock.now()
    booked = [
        ToCharge(
            collection_id=runtime.new_id(),
            partner_id=partners[number % len(partners)].id,
            short_code=partners[number % len(partners)].c2b_short_code,
            receipt=receipt(number),
            amount=Money.shillings(1_000),
            happened_at=now,
        )
        for number in range(payments)
    ]
    async with runtime.engine.connect() as connection:
        charges = await price_collections(connection, runtime, booked)
    return [[_collected(one), *(p for p in [charge.posting] if p)] for one, charge in zip(booked, charges, strict=True)]


def _collected(one: ToCharge) -> Posting:
    legs = (
        Leg(AccountRef(one.partner_id, "c2b_float"), one.amount.cents),
        Leg(AccountRef(one.partner_id, "collected_unposted"), -one.amount.cents),
    )
    key = f"alone:{one.receipt}"
    return Posting(one.partner_id, "collection", key, one.receipt, one.happened_at, legs)


async def _require_each_booked_once(runtime: Runtime, turns: Sequence[Turn], *, expected_bad: int) -> None:
    expected = sum(len(turn.spans) for turn in turns)
    async with runtime.engine.connect() as connection:
        found: Row[Any] = (await connection.execute(_BOOKED)).one()
    set_aside = sum(turn.set_aside for turn in turns)
    wanted = [expected, expected, expected, expected, 0, expected_bad]
    if [*found, set_aside] != wanted:
        raise SystemExit(f"booked are {found} and set aside {set_aside}, not {wanted}: the figures are worth nothing")


if __name__ == "__main__":
    main()
