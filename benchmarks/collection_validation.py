"""How long M-Pesa waits for our word whether a payment may be taken.

    python -m benchmarks.collection_validation [--rate 500] [--seconds 20] [--accounts 2000] [--json FILE]

Questions to the validation URLs of 5 lenders over keep-alive connections at a steady rate, counted by who asks, from the request
written to the whole answer. Each is stored sealed, with fsync on, and answered from the copy of the lender's accounts, which was
read from the sandbox's Mifos X before; one in ten names an account that does not exist and must be refused. An answer that had
to be given without knowing (the copy too old, the database too slow) ends the benchmark. Real receiver, PostgreSQL and Kafka; no
worker.

- Steady: `rate` a second for `seconds`; the bar is 1 s at 99 %. Beside it the same bodies at the same rate as confirmations,
  which are stored and acknowledged without a look: the ratio says what the answer costs.
- Flat out: as many again as fast as they are answered.
"""

import asyncio
import re
import time
from collections.abc import Sequence

from sqlalchemy import text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.bench_stack import BenchStack, start_bench_stack
from benchmarks.parts.customer_payments import CustomerPayments
from benchmarks.parts.lenders import ACTIVE, lenders, take_in
from benchmarks.parts.post_load import Measured, post_each
from benchmarks.parts.process_usage import UsageWatch, own_children, usage_figures
from vault_core.clock import NAIROBI
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime, open_runtime

NAME = "collection_validation"
BAR = 1.0
LENDERS = 5
_CONNECTIONS = 64
_PATIENCE = 120.0
_WARMING = 500
_SETTINGS_READ = 4.0  # seconds until the receiver has read the new lenders' settings
_MIRRORED = text("SELECT count(*) FROM mifos_accounts WHERE kind = 'loan'")
_COUNTED = re.compile(r'vault_receiver_validations_total\{code="(\w+)",known="(\w+)"\} (\d+)')


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="questions a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--accounts", type=int, default=2_000, help="loans of each lender")
    options = parser.parse_args()
    with start_bench_stack() as stack:
        figures, ratios = asyncio.run(_measure(stack, options.rate, options.seconds, options.accounts))
    publish(NAME, figures, ratios, options.json)


async def _measure(stack: BenchStack, rate: float, seconds: float, accounts: int) -> tuple[list[Figure], list[Ratio]]:
    async with open_runtime(stack.settings()) as runtime:
        partners = await take_in(runtime, stack.sandbox_url, lenders(LENDERS), [(accounts, ACTIVE)], {})
        await _mirror(runtime, accounts * LENDERS)
        await asyncio.sleep(_SETTINGS_READ)
        count = int(rate * seconds)
        asked = _source(runtime, partners, "c2b_validation", accounts)
        confirmed = _source(runtime, partners, "c2b_confirmation", accounts)
        await _post(stack, asked.requests(_WARMING))
        plain = await _post(stack, confirmed.requests(count), rate)
        watch = UsageWatch(own_children)
        steady = await _post(stack, asked.requests(count), rate)
        used = watch.look()
        flat_out = await _post(stack, asked.requests(count))
        refused = await _refused(runtime, stack)
    expected = (2 * count + _WARMING) // 10
    if abs(refused - expected) > LENDERS:
        raise SystemExit(f"{refused} questions were refused where about {expected} should be: the figures are worth nothing")
    figures = [
        Figure("steady: asked", rate, "1/s"),
        Figure("steady: answered, half", steady.percentile(0.5) * 1000, "ms"),
        Figure("steady: answered, 99 %", steady.percentile(0.99) * 1000, "ms"),
        Figure("steady: acknowledged without a look, 99 %", plain.percentile(0.99) * 1000, "ms"),
        Figure("flat out: answered", flat_out.rate, "1/s"),
        Figure("flat out: answered, 99 %", flat_out.percentile(0.99) * 1000, "ms"),
        Figure("refused", refused, "questions"),
        Figure("accounts", accounts * LENDERS, "accounts"),
        *usage_figures(used, watch.peaks(), per=count, what="question", seconds=steady.seconds),
    ]
    ratios = [
        Ratio("answered, 99 %", steady.percentile(0.99) / BAR, f"the bar of {BAR:.0f} s"),
        Ratio("answered, 99 %", steady.percentile(0.99) / plain.percentile(0.99), "acknowledged without a look"),
    ]
    return figures, ratios


def _source(runtime: Runtime, partners: Sequence[Partner], purpose: str, accounts: int) -> CustomerPayments:
    places = [(partner.c2b_short_code, callback_url(runtime, partner.id, purpose)) for partner in partners]
    typed = [f"{number:09d}" if number % 10 else f"9{number:08d}" for number in range(1, accounts + 1)]
    return CustomerPayments(places, typed, runtime.clock.now().astimezone(NAIROBI))


async def _post(stack: BenchStack, requests: Sequence[bytes], rate: float | None = None) -> Measured:
    load = await asyncio.to_thread(post_each, stack.port, requests, connections=_CONNECTIONS, rate=rate)
    if load.refused:
        raise SystemExit(f"{load.refused} questions were not answered: the figures are worth nothing")
    return load


async def _mirror(runtime: Runtime, wanted: int) -> None:
    """Has the accounts read as the worker's job does."""
    connections = Connections(runtime)
    deadline = time.monotonic() + _PATIENCE
    while True:
        await refresh_mirrors(runtime, connections)
        async with runtime.engine.connect() as connection:
            seen = (await connection.execute(_MIRRORED)).scalar_one()
        if seen >= wanted:
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"after {_PATIENCE:.0f} s {seen} of {wanted} accounts are mirrored")
        await asyncio.sleep(0.2)
    await connections.aclose()


async def _refused(runtime: Runtime, stack: BenchStack) -> int:
    """How many questions were refused, by the receiver's own count; none may have been answered without knowing."""
    metrics = (await runtime.http.get(f"http://127.0.0.1:{stack.port}/metrics")).text
    counted = {(code, known): int(count) for code, known, count in _COUNTED.findall(metrics)}
    if unknown := sum(count for (_, known), count in counted.items() if known == "no"):
        raise SystemExit(f"{unknown} questions were answered without knowing: the figures are worth nothing")
    return sum(count for (code, _), count in counted.items() if code != "0")


if __name__ == "__main__":
    main()
