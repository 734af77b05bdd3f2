"""Umoja's pay bill with STK push: the sandbox prompts, and its callbacks wait for a test to hand them on."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import text

from tests.callback_catcher import Catcher, catch_callbacks
from tests.integration.collections.conftest import PAY_BILL, Umoja
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.collections.stk_following import follow_prompts
from vault_core.collections.stk_requests import StkRequest, load_request
from vault_core.collections.stk_results import handle_stk_results
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE, sealed_body_binding
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_token
from vault_core.partners.connections import Connections
from vault_core.partners.credentials import CredentialPurpose, replace_credential
from vault_core.partners.url_registration import register_c2b_urls
from vault_core.runtime import Runtime

PHONE = "254712000001"
PASSKEY = "planted-passkey"
_STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, path_reference, body_sealed,
                                body_bytes, parsed, next_sweep_at)
    VALUES (:id, :partner_id, :purpose, :topic, :now, '196.201.214.200', 'application/json', :reference, :sealed, :size, true, :now)
    """
)


async def store_delivery(runtime: Runtime, partner_id: UUID, purpose: str, body: bytes, reference: str | None = None) -> UUID:
    """Keeps a delivery as the receiver does."""
    event_id = runtime.new_id()
    async with runtime.engine.begin() as connection:
        await connection.execute(
            _STORE,
            {
                "id": event_id,
                "partner_id": partner_id,
                "purpose": purpose,
                "topic": TOPIC_OF_PURPOSE[purpose],
                "now": runtime.clock.now(),
                "reference": reference,
                "sealed": runtime.sealer.seal(body, bound_to=sealed_body_binding(event_id)),
                "size": len(body),
            },
        )
    return event_id


@dataclass
class Till:
    """What tests do at the pay bill."""

    umoja: Umoja
    runtime: Runtime
    connections: Connections
    catcher: Catcher

    def wish(self, **changes) -> StkWish:
        given = {
            "partner_id": self.umoja.partner.id,
            "key": f"key-{self.runtime.new_id()}",
            "amount": Money.shillings(500),
            "phone": PHONE,
            "account_reference": "000000011",
            "description": "repayment",
            "asked_by": "ops:test",
            "reason": "asked at the counter",
        }
        return StkWish(**given | changes)

    async def ask(self, **changes) -> StkRequest:
        request, _ = await ask_to_pay(self.runtime, self.connections, self.wish(**changes))
        return request

    async def hand_on(self, *purposes: str, after: int = 1, times: int = 1) -> None:
        """Hands on what was caught for these purposes, in their order, once `after` posts are there."""
        caught = await self.catcher.wait_for(after)
        for purpose in purposes:
            token = callback_token(self.runtime.sealer, self.umoja.partner.id, purpose)
            for path, body in caught:
                match = re.fullmatch(rf"/i/{token}(?:/(\w+))?", path)
                for _ in range(times if match else 0):
                    assert match is not None
                    await self.deliver(purpose, body, match[1])

    async def deliver(self, purpose: str, body: bytes, reference: str | None = None) -> UUID:
        event_id = await store_delivery(self.runtime, self.umoja.partner.id, purpose, body, reference)
        handler = handle_stk_results if purpose == "stk_result" else handle_confirmations
        await handler(self.runtime, self.connections, [event_id])
        return event_id

    async def look(self, **later: float) -> int:
        self.umoja.runtime.clock.pass_time(**later)
        return await follow_prompts(self.runtime, self.connections)

    async def state(self, request: StkRequest) -> StkRequest:
        async with self.runtime.engine.connect() as connection:
            return await load_request(connection, self.runtime, request.partner_id, request.id)

    async def faults(self, **switches) -> None:
        await self.umoja.control("faults", switches)

    async def prompts(self) -> list[dict]:
        return (await self.umoja.truth())["mpesa"]["prompts"]


@asynccontextmanager
async def open_till(umoja: Umoja) -> AsyncIterator[Till]:
    code = {"name": "Umoja", "passkey": PASSKEY}
    await umoja.control(
        "setup", {"mpesa": {"short_codes": {PAY_BILL: code}, "apps": [{"consumer_key": "ck", "consumer_secret": "cs"}]}}
    )
    await replace_credential(umoja.runtime, umoja.partner.id, CredentialPurpose.MPESA_PASSKEY, PASSKEY, actor="ops:test")
    async with catch_callbacks() as catcher:
        runtime = replace(umoja.runtime, public_url=catcher.base)
        connections = Connections(runtime)
        await register_c2b_urls(runtime, connections, umoja.partner, actor="ops:test")
        yield Till(umoja, runtime, connections, catcher)
        await connections.aclose()
