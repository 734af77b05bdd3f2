"""A partner whose Mifos X, M-Pesa and SMS gateway are the sandbox, reached over HTTP by the real clients."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text

from vault_core.cases.case_book import OpenCase, list_open_cases
from vault_core.clock import NAIROBI
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.posting import post_collections
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import Money
from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import claim_calls
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.registration import register_partner
from vault_core.runtime import Runtime

PAY_BILL = "600100"

STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes, parsed,
                                next_sweep_at)
    VALUES (:id, :partner_id, 'c2b_confirmation', 'mpesa.c2b.confirmations', :now, '196.201.214.200', 'application/json', :sealed,
            :size, true, :now)
    """
)


def world() -> dict:
    clients = [
        {"id": 1, "first_name": "Jane", "last_name": "Wanjiku", "mobile_no": "0712000001"},
        {"id": 2, "first_name": "John", "last_name": "Otieno", "mobile_no": "0712000002"},
        {"id": 3, "first_name": "No", "last_name": "Phone"},
    ]
    loans = [
        {"id": 11, "client": 1, "product": 1, "principal_cents": 10_000_00, "status": 300, "external_id": "LN-1001"},
        {"id": 12, "client": 2, "product": 1, "principal_cents": 5_000_00, "status": 300},
        {"id": 13, "client": 2, "product": 1, "principal_cents": 5_000_00, "status": 200},
        {"id": 14, "client": 3, "product": 1, "principal_cents": 5_000_00, "status": 300},
        {"id": 21, "client": 1, "product": 1, "principal_cents": 5_000_00, "status": 300},
    ]
    return {
        "mifos": {
            "alpha": {
                "users": [{"username": "vault", "password": "planted-password"}],
                "products": [{"id": 1, "name": "Biashara"}],
                "clients": clients,
                "loans": loans,
                "savings": [{"id": 21, "client": 2}, {"id": 22, "client": 2}],
            }
        },
        "mpesa": {
            "apps": [{"consumer_key": "ck", "consumer_secret": "cs"}],
            "short_codes": {PAY_BILL: {"name": "Umoja"}, "600101": {"name": "Umoja B2C"}},
        },
        "sms": {"users": [{"user": "sim", "api_key": "planted-key", "senders": ["LENDER"], "balance_cents": 1_000_00}]},
    }


def described(base: str) -> str:
    return f"""
[partner]
name = "umoja"
display_name = "Umoja Credit"
[mifos]
url = "{base}/mifos/alpha/fineract-provider/api/v1"
tenant = "default"
user = "vault"
password = "planted-password"
[mpesa]
url = "{base}/daraja"
consumer_key = "ck"
consumer_secret = "cs"
initiator = "api"
security_credential = "sc"
b2c_short_code = "600101"
c2b_short_code = "{PAY_BILL}"
[sms]
url = "{base}/airtouch"
user = "sim"
api_key = "planted-key"
sender = "LENDER"
price = "0.80"
[charges]
system_fee = "20"
[[contacts]]
role = "operations"
name = "Ops"
phone = "0712999999"
"""


@dataclass
class Umoja:
    """The partner in its little world, with what tests do to it and read from it."""

    runtime: Runtime
    partner: Partner
    connections: Connections
    sandbox: str

    def payment(self, receipt: str, cents: int, reference: str) -> bytes:
        moment = self.runtime.clock.now().astimezone(NAIROBI)
        return json.dumps(
            {
                "TransactionType": "Pay Bill",
                "TransID": receipt,
                "TransTime": f"{moment:%Y%m%d%H%M%S}",
                "TransAmount": f"{cents / 100:.2f}",
                "BusinessShortCode": PAY_BILL,
                "BillRefNumber": reference,
                "OrgAccountBalance": "1.00",
                "MSISDN": "2547 ***** 126",
                "FirstName": "JANE",
            }
        ).encode()

    async def confirm(self, *bodies: bytes) -> None:
        """Stores bodies as the receiver does, and has them handled."""
        ids: list[UUID] = [self.runtime.new_id() for _ in bodies]
        async with self.runtime.engine.begin() as connection:
            for event_id, raw in zip(ids, bodies, strict=True):
                sealed = self.runtime.sealer.seal(raw, bound_to=sealed_body_binding(event_id))
                row = {"id": event_id, "partner_id": self.partner.id, "now": self.runtime.clock.now(), "sealed": sealed}
                await connection.execute(STORE, row | {"size": len(raw)})
        await handle_confirmations(self.runtime, self.connections, ids)

    async def pay(self, receipt: str, cents: int, reference: str) -> None:
        """One payment; the next one comes a second later."""
        await self.confirm(self.payment(receipt, cents, reference))
        self.runtime.clock.pass_time(seconds=1)

    async def work(self, kind: str = "collection.post") -> None:
        """Makes the calls of `kind` that are due."""
        handler = {"collection.post": post_collections, "message.send": send_messages}[kind]
        ids = [row.id for row in await self.rows("SELECT id, kind FROM outbox ORDER BY id") if row.kind == kind]
        await handler(self.runtime, self.connections, await claim_calls(self.runtime, ids))

    async def rows(self, sql: str) -> list:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(text(sql))).all())

    async def collection(self, receipt: str):
        [row] = [row for row in await self.rows("SELECT * FROM collections") if row.receipt == receipt]
        return row

    async def cases(self) -> list[OpenCase]:
        async with self.runtime.engine.connect() as connection:
            return await list_open_cases(connection)

    async def balance(self, code: str) -> Money:
        async with self.runtime.engine.connect() as connection:
            return (await balance(connection, AccountRef(self.partner.id, code))).posted

    async def control(self, what: str, wish: dict) -> None:
        (await self.runtime.http.post(f"{self.sandbox}/control/{what}", json=wish)).raise_for_status()

    async def truth(self) -> dict:
        return (await self.runtime.http.get(f"{self.sandbox}/truth")).json()

    async def posted_to(self, kind: str, account_id: int) -> list[tuple[str, int]]:
        """(receipt, cents) of what Mifos X really has of payments on the account."""
        account = (await self.truth())["mifos"]["alpha"][kind][str(account_id)]
        return [
            (one["receipt"], one["amount_cents"])
            for one in account["transactions"]
            if one["kind"] in ("repayment", "deposit") and not one["reversed"]
        ]

    async def texts(self) -> list[tuple[str, str]]:
        return [(one["phone"], one["text"]) for one in (await self.truth())["sms"]["users"]["sim"]["messages"]]


@pytest.fixture
async def umoja(runtime: Runtime, sandbox: str) -> AsyncIterator[Umoja]:
    (await runtime.http.post(f"{sandbox}/control/setup", json=world())).raise_for_status()
    partner = await register_partner(runtime, parse_partner_file(described(sandbox)), actor="ops:test")
    connections = Connections(runtime)
    yield Umoja(runtime, partner, connections, sandbox)
    await connections.aclose()


@pytest.fixture
async def office(umoja: Umoja) -> AsyncIterator["Office"]:  # noqa: F821 - it is built on Umoja
    """Umoja with people who decide about payments, and M-Pesa's words about reversals heard."""
    from tests.integration.collections.office import open_office

    opened, server = await open_office(umoja)
    yield opened
    server.close()
    await opened.callbacks.stop()
