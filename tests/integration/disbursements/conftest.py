"""A lender whose M-Pesa, Mifos X and SMS gateway are the sandbox over HTTP, and a small server that stores what they call back.

Nothing runs by itself: a test says when stored results are applied, questions asked, postings made.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from vault_core.clock import business_day
from vault_core.database import open_sync_engine
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.detection import handle_mifos_events, poll_due
from vault_core.disbursements.posting import post_disbursements
from vault_core.disbursements.recovery import recover_sending
from vault_core.disbursements.results import handle_b2c_results, handle_b2c_timeouts
from vault_core.disbursements.review import read_held_again, release_held
from vault_core.disbursements.sending import SendReport, send_batch
from vault_core.disbursements.status_queries import ask_due
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE
from vault_core.inbox.receiving import Arrival, open_delivery_store
from vault_core.ledger.verification import verify_ledger
from vault_core.money import Money
from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import claim_calls
from vault_core.partners.callback_urls import CallbackPurpose, callback_token
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, enable_product
from vault_core.partners.registration import register_partner
from vault_core.query_answers import handle_query_results
from vault_core.runtime import Runtime
from vault_core.settings import Pace
from vault_core.wallets.topup import TopUp, record_topup

HANDLERS = {
    "b2c_result": handle_b2c_results,
    "b2c_timeout": handle_b2c_timeouts,
    "query_result": handle_query_results,
    "query_timeout": handle_query_results,
    "mifos_hook": handle_mifos_events,
}
SHORT_CODE = "600100"
PACE = Pace(b2c_per_second=1000.0, b2c_in_flight=8, http_timeout=5.0, mifos_write_timeout=5.0, payout_retry_tries=3)


def lender_file(sandbox: str, name: str, short_code: str) -> str:
    return f"""
[partner]
name = "{name}"
display_name = "{name.title()} Credit"
[mifos]
url = "{sandbox}/mifos/{name}/fineract-provider/api/v1"
tenant = "default"
user = "mifos"
password = "password"
[mpesa]
url = "{sandbox}/daraja"
consumer_key = "key-{name}"
consumer_secret = "secret-{name}"
initiator = "api"
security_credential = "credential-{name}"
b2c_short_code = "{short_code}"
c2b_short_code = "{int(short_code) + 1}"
[sms]
url = "{sandbox}/airtouch"
user = "sim"
api_key = "SIM"
sender = "LENDER"
price = "0.80"
[charges]
system_fee = "50.00"
[[contacts]]
role = "operations"
name = "Achieng Ops"
phone = "0712000001"
"""


def world(name: str, short_code: str, loans: list[dict[str, Any]], clients: list[dict[str, Any]], **host: Any) -> dict[str, Any]:
    return {
        "mpesa": {
            "apps": [{"consumer_key": f"key-{name}", "consumer_secret": f"secret-{name}", "short_codes": [short_code]}],
            "short_codes": {
                short_code: {
                    "name": f"{name.upper()} CREDIT",
                    "utility_cents": 5_000_000_000,
                    "initiator": "api",
                    "security_credential": f"credential-{name}",
                }
            },
        },
        "mifos": {
            name: {
                "b2c_short_code": short_code,
                "sms_user": "sim",
                "users": [{"username": "mifos", "password": "password", "permissions": ["ALL_FUNCTIONS"]}],
                "payment_types": ["M-Pesa"],
                "products": [{"id": 1, "name": "Biashara Loan", "short_name": "BIAS"}],
                "clients": clients,
                "loans": loans,
                **host,
            }
        },
        "sms": {
            "users": [{"user": "sim", "api_key": "SIM", "senders": ["LENDER"], "price_cents": 80, "balance_cents": 10_000_000}]
        },
        "settings": {"result_delay_ms": 5, "hang_ms": 50, "late_ms": 100},
    }


def client(number: int, mobile_no: str | None = None) -> dict[str, Any]:
    return {
        "id": number,
        "first_name": "Wanjiku",
        "last_name": f"Kamau{'abcdefghij'[number % 10]}",
        "mobile_no": f"07{number:08d}" if mobile_no is None else mobile_no,
    }


def loan(number: int, principal_cents: int = 1_500_000, **more: Any) -> dict[str, Any]:
    return {"id": number, "client": number, "product": 1, "principal_cents": principal_cents, "status": 200, **more}


class CallbackStore:
    """Stores what is posted to it as the receiver does, and answers 200."""

    def __init__(self) -> None:
        self.purposes: dict[str, tuple[UUID, str]] = {}
        self.runtime: Runtime | None = None
        self.port = 0
        self.serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.serving.discard(task)
            writer.close()

    async def stop(self) -> None:
        """Ends what is being received: the database goes away next."""
        under_way = list(self.serving)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "POST":
            await self._store(path, headers, body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
        await writer.drain()
        return True

    async def _store(self, path: str, headers: dict[str, str], body: bytes) -> None:
        parts = [part for part in path.split("/") if part]
        partner_id, purpose = self.purposes[parts[1]]
        await self.keep(partner_id, purpose, body, parts[2] if len(parts) > 2 else None, headers)

    async def keep(
        self, partner_id: UUID, purpose: str, body: bytes, reference: str | None = None, headers: dict[str, str] | None = None
    ) -> UUID:
        assert self.runtime is not None
        kept = {name: value for name, value in (headers or {}).items() if name.startswith(("x-fineract", "x-mifos"))}
        arrival = Arrival(
            id=self.runtime.new_id(), partner_id=partner_id, purpose=purpose, received_at=self.runtime.clock.now(),
            source_ip="127.0.0.1", content_type="application/json", path_reference=reference, headers=kept, body=body, parsed=True,
        )  # fmt: skip
        assert TOPIC_OF_PURPOSE[purpose]
        async with open_delivery_store(self.runtime.engine, self.runtime.sealer, sweep_after=timedelta(seconds=30)) as store:
            await store.store([arrival])
        return arrival.id


@dataclass
class Day:
    """One lender's day: what a stack of workers would do, when the test says so."""

    runtime: Runtime
    connections: Connections
    partner: Partner
    sandbox: str
    clock: Any
    callbacks: CallbackStore

    # the outside
    async def control(self, what: str, body: dict[str, Any]) -> Any:
        answer = await self.runtime.http.post(f"{self.sandbox}/control/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def faults(self, **switches: Any) -> None:
        await self.control("faults", switches)

    async def truth(self) -> Any:
        return (await self.runtime.http.get(f"{self.sandbox}/truth")).json()

    async def quiet(self) -> None:
        """Waits until the sandbox has told everything it has to tell."""
        async with asyncio.timeout(20):
            while (await self.runtime.http.get(f"{self.sandbox}/control/quiet")).json()["pending"]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.02)

    # the product
    async def poll(self) -> Any:
        async with self.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE partners SET next_poll_at = :now"), {"now": self.runtime.clock.now()})
        return await poll_due(self.runtime, self.connections)

    async def send(self) -> SendReport:
        total = SendReport()
        for batch in await form_batches(self.runtime):
            report = await send_batch(self.runtime, self.connections, batch.id)
            for name in ("accepted", "refused", "unknown", "not_sent", "held"):
                setattr(total, name, getattr(total, name) + getattr(report, name))
        return total

    async def stored(self, *purposes: str) -> list[tuple[UUID, str]]:
        async with self.runtime.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT id, purpose FROM inbound_events WHERE state = 'stored' AND purpose = ANY(:p) ORDER BY id"),
                {"p": list(purposes or HANDLERS)},
            )
            return [(row.id, row.purpose) for row in rows]

    async def hear(self, *purposes: str) -> int:
        """Applies what is stored."""
        await self.quiet()
        events = await self.stored(*purposes)
        for purpose in dict.fromkeys(purpose for _, purpose in events):
            await HANDLERS[purpose](self.runtime, self.connections, [event for event, its in events if its == purpose])
        return len(events)

    async def post(self) -> None:
        await self._outbox("disbursement.post", post_disbursements)

    async def text_people(self) -> None:
        await self._outbox("message.send", send_messages)

    async def _outbox(self, kind: str, handler: Any) -> None:
        ids = [row["id"] for row in await self.rows("SELECT id FROM outbox WHERE kind = :kind AND state = 'pending'", kind=kind)]
        calls = await claim_calls(self.runtime, ids)
        await handler(self.runtime, self.connections, calls)

    async def ask(self) -> int:
        return await ask_due(self.runtime, self.connections)

    async def review(self) -> int:
        return await release_held(self.runtime) + await read_held_again(self.runtime, self.connections)

    async def recover(self) -> int:
        return await recover_sending(self.runtime, self.connections)

    # what is written
    async def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        async with self.runtime.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(sql), values)).mappings()]

    async def states(self) -> dict[int, str]:
        return {row["loan_id"]: row["state"] for row in await self.rows("SELECT loan_id, state FROM disbursements")}

    async def loan_row(self, loan_id: int) -> dict[str, Any]:
        return (await self.rows("SELECT * FROM disbursements WHERE loan_id = :id", id=loan_id))[0]

    async def attempts(self, loan_id: int) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT a.* FROM disbursement_attempts a JOIN disbursements d ON d.id = a.disbursement_id"
            " WHERE d.loan_id = :id ORDER BY a.number",
            id=loan_id,
        )

    async def cases(self) -> list[str]:
        return [row["kind"] for row in await self.rows("SELECT kind FROM cases WHERE closed_at IS NULL ORDER BY kind")]

    async def balance(self, code: str, *, house: bool = False) -> int:
        """Debits less credits, in cents."""
        sql = "SELECT coalesce(sum(balance_cents), 0)::bigint AS cents FROM ledger_accounts WHERE code = :code AND partner_id "
        sql += "IS NULL" if house else "= :partner_id"
        return int((await self.rows(sql, code=code, partner_id=self.partner.id))[0]["cents"])

    async def held_cents(self) -> int:
        return int((await self.rows("SELECT coalesce(sum(held_cents), 0)::bigint AS cents FROM ledger_accounts"))[0]["cents"])

    def ledger_findings(self) -> list[Any]:
        """What is wrong with the ledger: nothing, always."""
        engine = open_sync_engine(self.runtime.engine.url.render_as_string(hide_password=False))
        try:
            return verify_ledger(engine)
        finally:
            engine.dispose()

    async def payments(self) -> list[dict[str, Any]]:
        """What M-Pesa really paid."""
        truth = await self.truth()
        return truth["mpesa"]["short_codes"][self.partner.b2c_short_code]["b2c"]

    async def fund(self, shillings: int, reference: str = "T1") -> None:
        amount = Money.shillings(shillings)
        done = await record_topup(self.runtime, self.partner.id, amount, reference, "ops:test", "test")
        assert isinstance(done, TopUp), "more than one person may credit alone"


@asynccontextmanager
async def lender_day(
    runtime: Runtime,
    sandbox: str,
    clock: Any,
    callbacks: CallbackStore,
    setup: dict[str, Any],
    name: str = "alpha",
    short_code: str = SHORT_CODE,
) -> AsyncIterator[Day]:
    answer = await runtime.http.post(f"{sandbox}/control/setup", json=setup)
    assert answer.status_code == 200, answer.text
    partner = await register_partner(runtime, parse_partner_file(lender_file(sandbox, name, short_code)), actor="ops:test")
    limits = Limits(least=Money.shillings(500), most=Money.shillings(200_000), daily=None)
    await enable_product(runtime, partner, "1", limits, actor="ops:test")
    for purpose in CallbackPurpose:
        callbacks.purposes[callback_token(runtime.sealer, partner.id, purpose)] = (partner.id, purpose.value)
    connections = Connections(runtime)
    try:
        yield Day(runtime, connections, partner, sandbox, clock, callbacks)
    finally:
        await connections.aclose()


@pytest.fixture
async def callbacks(runtime: Runtime) -> AsyncIterator[CallbackStore]:
    """Ended before the runtime that it stores with."""
    store = CallbackStore()
    store.runtime = runtime
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    store.port = server.sockets[0].getsockname()[1]
    yield store
    server.close()
    await store.stop()


@pytest.fixture
def vault(runtime: Runtime, callbacks: CallbackStore) -> Runtime:
    """The runtime, reachable by the sandbox."""
    reachable = replace(runtime, public_url=f"http://127.0.0.1:{callbacks.port}", pace=PACE)
    callbacks.runtime = reachable
    return reachable


@pytest.fixture
def open_day(vault: Runtime, sandbox: str, clock: Any, callbacks: CallbackStore):
    """Opens a lender's day with these loans and clients."""

    def opened(loans: list[dict[str, Any]], clients: list[dict[str, Any]] | None = None, **host: Any):
        people = clients if clients is not None else [client(entry["id"]) for entry in loans]
        approved = [{"approved_on": business_day(clock.now()).isoformat(), **entry} for entry in loans]
        return lender_day(vault, sandbox, clock, callbacks, world("alpha", SHORT_CODE, approved, people, **host))

    return opened
