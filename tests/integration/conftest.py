"""Partners and stored deliveries in the database, and outside systems at the level of the clients' interfaces.

The same services are held to the real wire formats where a test asks for the sandbox.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from vault_core.errors import Unreachable, VaultError
from vault_core.inbox.receiving import Arrival, open_delivery_store
from vault_core.money import Money
from vault_core.outcome import Accepted, Outcome
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.system_fees import FeeTerms, write_system_fees
from vault_core.runtime import Runtime

Store = Callable[..., Awaitable[list[UUID]]]

_ADD = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_payment_type_id, mifos_capabilities,
        mpesa_url, mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at,
        created_at)
    VALUES (:id, :name, initcap(:name) || ' Credit', 'http://127.0.0.1:9', 'default', 'mifos', 3,
        '{"status_filter": true, "idempotency": true, "loan_external_ids": true, "savings_external_ids": false}',
        'http://127.0.0.1:9', 'api', :b2c, :c2b, 'http://127.0.0.1:9', 'sim', 'LENDER', :now, :now)
    """
)

AddLender = Callable[[str, str], Awaitable[Partner]]


@pytest.fixture
def add_lender(runtime: Runtime) -> AddLender:
    """Adds a partner by name and pay bill number, whose texts cost 80 cents a part. Its outside systems are nowhere."""

    async def add(name: str, pay_bill: str) -> Partner:
        partner_id = runtime.new_id()
        async with runtime.engine.begin() as connection:
            await connection.execute(
                _ADD, {"id": partner_id, "name": name, "b2c": f"9{pay_bill}", "c2b": pay_bill, "now": runtime.clock.now()}
            )
            price = FeeTerms("sms", flat=Money(80))
            await write_system_fees(
                connection,
                partner_id,
                [(runtime.new_id(), price)],
                valid_from=date(2020, 1, 1),
                actor="ops:test",
                now=runtime.clock.now(),
            )
            return await load_partner(connection, id=partner_id)

    return add


@pytest.fixture
async def lender(add_lender: AddLender) -> Partner:
    return await add_lender("alpha", "600100")


class ScriptedGateway:
    """An SMS gateway that answers what a test tells it to, by phone, and keeps what it was handed. Accepts by default."""

    def __init__(self) -> None:
        self.sent: list = []
        self.answers: dict[str, list] = {}

    def answer(self, phone: str, *answers: Outcome | VaultError) -> None:
        self.answers[phone] = list(answers)

    async def send(self, message):
        from vault_core.clients.sms_gateway import SmsAck

        self.sent.append(message)
        script = self.answers.get(message.phone)
        answer = script.pop(0) if script else Accepted(SmsAck("gw-1"))
        if isinstance(answer, VaultError):
            raise answer
        return answer


class StandInConnections:
    """Connections to outside systems that a test made; what it did not make is unreachable."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.gateway = ScriptedGateway()
        self.cores: dict[UUID, object] = {}
        self._writes = asyncio.Semaphore(5)

    def mifos_writes(self, partner_id: UUID) -> asyncio.Semaphore:  # noqa: ARG002 - the interface of Connections
        return self._writes

    async def business_date(self, partner_id: UUID) -> object:
        return await self.cores[partner_id].business_date()

    async def partner(self, partner_id: UUID) -> Partner:
        async with self._runtime.engine.connect() as connection:
            return await load_partner(connection, id=partner_id)

    async def sms(self, partner_id: UUID) -> ScriptedGateway:  # noqa: ARG002 - the interface of Connections
        return self.gateway

    async def mifos(self, partner_id: UUID):
        if partner_id not in self.cores:
            raise Unreachable("no Mifos X in this test")
        return self.cores[partner_id]


@pytest.fixture
def outside(runtime: Runtime) -> StandInConnections:
    return StandInConnections(runtime)


@pytest.fixture
def store(runtime: Runtime) -> Store:
    """Stores deliveries with the given bodies and returns their ids, in order."""

    async def store_bodies(*bodies: bytes, purpose: str = "c2b_confirmation", reference: str | None = None) -> list[UUID]:
        arrivals = [
            Arrival(
                id=runtime.new_id(),
                partner_id=UUID(int=7),
                purpose=purpose,
                received_at=runtime.clock.now(),
                source_ip="127.0.0.1",
                content_type="application/json",
                path_reference=reference,
                headers={"x-fineract-entity": "LOAN"} if purpose == "mifos_hook" else {},
                body=body,
                parsed=True,
            )
            for body in bodies
        ]
        sweep_after = timedelta(seconds=runtime.pace.inbox_sweep_after)
        async with open_delivery_store(runtime.engine, runtime.sealer, sweep_after=sweep_after) as opened:
            await opened.store(arrivals)
            await opened.store(arrivals)  # a repeat after a broken connection
        return sorted(arrival.id for arrival in arrivals)

    return store_bodies
