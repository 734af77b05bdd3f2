"""From approved loans in Mifos X to all B2C requests sent.

    python -m benchmarks.batch_disbursement [--loans 5000] [--latency-ms 50] [--in-flight 64] [--json FILE]

Measured is what one sensor tick and one run do: poll Mifos X by pages, read each client's phone, insert, form the batch, claim
with the charges held and each instruction committed, read each loan again, send it, record the answer. Real PostgreSQL, real
HTTP; the sandbox answers after `latency-ms` and is a process of its own. Results are told after the measurement.

Two ceilings are taken in the same minutes with the same client library and as many calls in flight: the B2C requests alone, and
all the requests that the product makes (a client, a loan and a payment for each).
"""

import asyncio
import os
import random
import resource
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvloop
from sqlalchemy import text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from tests.sandbox_process import start_sandbox
from vault_core.clock import SystemClock, business_day
from vault_core.database import APP_ROLE, open_async_engine, open_owner_engine
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import poll_due
from vault_core.disbursements.sending import send_batch
from vault_core.http_pool import SpreadTransport
from vault_core.identifiers import id_maker
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, enable_product
from vault_core.partners.registration import register_partner
from vault_core.runtime import Runtime
from vault_core.schema import migrate
from vault_core.secrets import Sealer
from vault_core.settings import Pace
from vault_core.wallets.topup import record_topup

BAR_SECONDS = 120.0
AIM_SECONDS = 60.0
SHORT_CODE = "600100"
PARTNER = """
[partner]
name = "alpha"
display_name = "Alpha Credit"
[mifos]
url = "{base}/mifos/alpha/fineract-provider/api/v1"
tenant = "default"
user = "mifos"
password = "password"
[mpesa]
url = "{base}/daraja"
consumer_key = "key"
consumer_secret = "secret"
initiator = "api"
security_credential = "credential"
b2c_short_code = "600100"
c2b_short_code = "600101"
[sms]
url = "{base}/airtouch"
user = "sim"
api_key = "SIM"
sender = "LENDER"
price = "0.80"
[charges]
system_fee = "50.00"
[[contacts]]
role = "operations"
name = "Ops"
phone = "0712000001"
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each part; processor time of the product."""

    finding: float
    sending: float
    cpu: float
    payments_alone: float
    all_requests: float


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--loans", type=int, default=5000)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--in-flight", type=int, default=Pace().b2c_in_flight)
    options = parser.parse_args()
    with _postgres() as database_url, start_sandbox(extra=("--latency-ms", str(options.latency_ms))) as base:
        measured = uvloop.run(_measure(database_url, base, options.loans, options.in_flight))
    seconds = measured.finding + measured.sending
    figures = [
        Figure("approved to all sent", seconds, "s"),
        Figure("of it: found, with phones, and inserted", measured.finding, "s"),
        Figure("of it: claimed, read again, sent, recorded", measured.sending, "s"),
        Figure("loans a second", options.loans / seconds, "1/s"),
        Figure("processor time of the product", measured.cpu, "s"),
        Figure("peak memory of the product", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB"),
        Figure("bare: B2C requests alone", measured.payments_alone, "s"),
        Figure("bare: all three requests a loan", measured.all_requests, "s"),
        Figure("loans", options.loans, "loans"),
        Figure("latency of the B2C gateway", options.latency_ms, "ms"),
        Figure("in flight", options.in_flight, "requests"),
    ]
    ratios = [
        Ratio("speed", measured.payments_alone / seconds, "bare B2C requests alone, same number in flight"),
        Ratio("speed", measured.all_requests / seconds, "bare, the three requests of each loan"),
        Ratio("time", seconds / BAR_SECONDS, f"the bar of {BAR_SECONDS:.0f} s"),
        Ratio("time", seconds / AIM_SECONDS, f"the aim of {AIM_SECONDS:.0f} s"),
    ]
    publish("batch_disbursement", figures, ratios, options.json)
    return 0 if seconds <= BAR_SECONDS else 1


async def _measure(database_url: str, base: str, loans: int, in_flight: int) -> Measured:
    clock = SystemClock()
    engine = open_async_engine(database_url)
    async with httpx.AsyncClient(timeout=30, transport=SpreadTransport(), headers={"User-Agent": "payment-vault"}) as http:
        runtime = Runtime(
            engine=engine,
            clock=clock,
            new_id=id_maker(clock),
            chance=random.Random(1),
            sealer=Sealer([("bench", os.urandom(32))]),
            http=http,
            pace=replace(Pace(), b2c_in_flight=in_flight, b2c_per_second=1000.0),
            public_url="http://127.0.0.1:9",
        )
        await _set_up(runtime, base, loans)
        payments_alone = await _timed(lambda: _raw(base, loans, in_flight, reads=False))
        connections = Connections(runtime)
        used_before = _cpu()
        started = time.perf_counter()
        (poll,) = await poll_due(runtime, connections)
        polled = time.perf_counter()
        batches = await form_batches(runtime)
        sent = [await send_batch(runtime, connections, batch.id) for batch in batches]
        ended = time.perf_counter()
        cpu = _cpu() - used_before
        all_requests = await _timed(lambda: _raw(base, loans, in_flight, reads=True))
        accepted = sum(report.accepted for report in sent)
        if poll.error or accepted != loans:
            raise SystemExit(f"not all loans were sent: {poll}, {sent}")
        await connections.aclose()
    await engine.dispose()
    return Measured(polled - started, ended - polled, cpu, payments_alone, all_requests)


async def _set_up(runtime: Runtime, base: str, loans: int) -> None:
    today = business_day(runtime.clock.now()).isoformat()
    world = {
        "mpesa": {
            "apps": [{"consumer_key": "key", "consumer_secret": "secret", "short_codes": [SHORT_CODE]}],
            "short_codes": {
                SHORT_CODE: {
                    "name": "ALPHA",
                    "utility_cents": 10**13,
                    "initiator": "api",
                    "security_credential": "credential",
                }
            },
        },
        "mifos": {
            "alpha": {
                "users": [{"username": "mifos", "password": "password", "permissions": ["ALL_FUNCTIONS"]}],
                "payment_types": ["M-Pesa"],
                "products": [{"id": 1, "name": "Biashara Loan"}],
                "clients": [
                    {"id": number, "first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": f"07{number:08d}"}
                    for number in range(1, loans + 1)
                ],
                "loans": [
                    {
                        "id": number,
                        "client": number,
                        "product": 1,
                        "principal_cents": 1_500_000,
                        "status": 200,
                        "approved_on": today,
                    }
                    for number in range(1, loans + 1)
                ],
            }
        },
        "sms": {"users": [{"user": "sim", "api_key": "SIM", "senders": ["LENDER"]}]},
        "settings": {"result_delay_ms": 3_600_000},
    }
    (await runtime.http.post(f"{base}/control/setup", json=world, timeout=120)).raise_for_status()
    partner = await register_partner(runtime, parse_partner_file(PARTNER.format(base=base)), actor="ops:bench")
    limits = Limits(Money.shillings(500), Money.shillings(200_000), None)
    await enable_product(runtime, partner, "1", limits, actor="ops:bench")
    await record_topup(runtime, partner.id, Money.shillings(loans * 100), "BENCH", "ops:bench", "benchmark")
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET next_poll_at = :now"), {"now": runtime.clock.now()})


async def _raw(base: str, loans: int, in_flight: int, *, reads: bool) -> None:
    async with httpx.AsyncClient(timeout=30, transport=SpreadTransport()) as http:
        token = (await http.get(f"{base}/daraja/oauth/v1/generate?grant_type=client_credentials", auth=("key", "secret"))).json()[
            "access_token"
        ]
        mifos = f"{base}/mifos/alpha/fineract-provider/api/v1"
        numbers = iter(range(1, loans + 1))

        async def worker() -> None:
            for number in numbers:
                if reads:
                    await _checked(_get(http, f"{mifos}/clients/{number}"))
                    await _checked(_get(http, f"{mifos}/loans/{number}?associations=transactions"))
                await _checked(
                    http.post(f"{base}/daraja/mpesa/b2c/v3/paymentrequest", json=_order(number), headers=_bearer(token))
                )

        await asyncio.gather(*(worker() for _ in range(in_flight)))


def _get(http: httpx.AsyncClient, url: str) -> Awaitable[httpx.Response]:
    return http.get(url, auth=("mifos", "password"), headers={"Fineract-Platform-TenantId": "default"})


async def _checked(call: Awaitable[httpx.Response]) -> None:
    answer = await call
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"{answer.url}: HTTP {answer.status_code} {answer.text[:200]}")


def _order(number: int) -> dict[str, str]:
    return {
        "OriginatorConversationID": uuid.uuid4().hex,
        "InitiatorName": "api",
        "SecurityCredential": "credential",
        "CommandID": "BusinessPayment",
        "Amount": "15000",
        "PartyA": SHORT_CODE,
        "PartyB": f"2547{number:08d}",
        "Remarks": "bench",
        "QueueTimeOutURL": "http://127.0.0.1:9/t",
        "ResultURL": "http://127.0.0.1:9/r",
        "Occassion": "",
    }


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def _postgres() -> Iterator[str]:
    """The URL of a migrated database, on a durable server of its own."""
    with tempfile.TemporaryDirectory(prefix="pvb") as name:
        folder = Path(name)
        with temporary_postgres(folder, durable=True) as place:
            ensure_databases(place)
            owner = open_owner_engine(place.url("vault"))
            migrate(owner, now=datetime.now(UTC))
            owner.dispose()
            yield place.url("vault", user=APP_ROLE)


if __name__ == "__main__":
    raise SystemExit(main())
