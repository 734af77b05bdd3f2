"""The partner's office: payments that M-Pesa knows, people who decide about them, and M-Pesa's words about reversals."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from tests.integration.collections.conftest import PAY_BILL, Umoja
from tests.integration.disbursements.conftest import CallbackStore
from vault_core.collections.assigning import UNDO_CALL, Wish, approve, assign, move, reject, reverse
from vault_core.collections.decision_rows import Decision
from vault_core.collections.posting import post_collections
from vault_core.collections.proof import collections_findings
from vault_core.collections.reversal_sending import advance_reversals
from vault_core.collections.undoing import undo_postings
from vault_core.money import Money
from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import claim_calls
from vault_core.partners.callback_urls import CallbackPurpose, callback_token
from vault_core.partners.collection_settings import set_collection_settings
from vault_core.query_answers import handle_query_results

ANNE, BEN = "ops:anne", "ops:ben"
HANDLERS = {"collection.post": post_collections, UNDO_CALL: undo_postings, "message.send": send_messages}


@dataclass
class Office(Umoja):
    """Umoja with people in it. Amounts up to KES 50,000 are one person's to assign."""

    callbacks: CallbackStore

    async def settle(self, kind: str = "collection.post") -> None:
        """Makes the calls of `kind` that are due."""
        ids = [row.id for row in await self.rows("SELECT id, kind FROM outbox ORDER BY id") if row.kind == kind]
        await HANDLERS[kind](self.runtime, self.connections, await claim_calls(self.runtime, ids))

    async def customer_pays(self, cents: int, reference: str) -> str:
        """A payment that M-Pesa has in its books, confirmed and worked on; returns its receipt."""
        wish = {"short_code": PAY_BILL, "phone": "254712000001", "amount_cents": cents, "bill_reference": reference}
        told = (await self.runtime.http.post(f"{self.sandbox}/control/c2b", json=wish)).json()
        receipt: str = told["receipt"]
        await self.pay(receipt, cents, reference)
        await self.settle()
        return receipt

    async def assign(self, receipt: str, account: str, *, actor: str = ANNE, **more: Any) -> Decision:
        self.runtime.clock.pass_time(seconds=1)
        return await assign(self.runtime, self.connections, Wish(receipt, "seen on the slip", account, **more), actor=actor)

    async def move(self, receipt: str, account: str | None = None, *, actor: str = ANNE, **more: Any) -> Decision:
        self.runtime.clock.pass_time(seconds=1)
        return await move(self.runtime, self.connections, Wish(receipt, "wrong account", account, **more), actor=actor)

    async def reverse(self, receipt: str, *, actor: str = ANNE) -> Decision:
        self.runtime.clock.pass_time(seconds=1)
        return await reverse(self.runtime, Wish(receipt, "paid by mistake"), actor=actor)

    async def approve(self, receipt: str, *, actor: str = BEN) -> Decision:
        return await approve(self.runtime, self.connections, receipt, actor=actor)

    async def reject(self, receipt: str, *, actor: str = BEN) -> Decision:
        return await reject(self.runtime, receipt, reason="the slip says otherwise", actor=actor)

    async def setting(self, **changes: Any) -> None:
        await set_collection_settings(self.runtime, self.partner, changes, actor="ops:test")

    async def send_reversals(self) -> int:
        return await advance_reversals(self.runtime, self.connections)

    async def hear(self) -> list[str]:
        """Waits until M-Pesa has told everything, applies it, and returns what that did."""
        async with asyncio.timeout(20):
            while (await self.runtime.http.get(f"{self.sandbox}/control/quiet")).json()["pending"]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.02)
        stored = [row.id for row in await self.rows("SELECT id FROM inbound_events WHERE purpose LIKE 'query%' ORDER BY id")]
        await handle_query_results(self.runtime, self.connections, stored)
        told = await self.rows("SELECT effect, cause FROM inbound_events WHERE purpose LIKE 'query%' ORDER BY id")
        return [row.effect or row.cause for row in told]

    async def open_case_kinds(self) -> list[str]:
        return sorted(case.kind for case in await self.cases())

    async def decision_state(self, receipt: str) -> str:
        rows = await self.rows(
            "SELECT d.state, c.receipt FROM collection_decisions d JOIN collections c ON c.id = d.collection_id ORDER BY d.proposed_at"
        )
        return [row.state for row in rows if row.receipt == receipt][-1]

    async def standing(self, receipt: str) -> tuple[str, bool]:
        row = await self.collection(receipt)
        return row.state, row.in_suspense

    async def books(self) -> tuple[Money, Money, Money, Money]:
        """What is in suspense, unposted, on the loan book and on the savings book, each proved on the way."""
        assert await collections_findings(self.runtime.engine) == []
        codes = ("suspense", "collected_unposted", "loan_book", "savings_book")
        suspense, unposted, loans, savings = [await self.balance(code) for code in codes]
        return suspense, unposted, loans, savings

    async def reversed_by_mpesa(self) -> list[tuple[str, int]]:
        """What M-Pesa really gave back: (receipt of the payment, cents)."""
        code = (await self.truth())["mpesa"]["short_codes"][PAY_BILL]
        return [(each["original"], each["amount_cents"]) for each in code["reversals"] if each["result_code"] == "0"]


async def open_office(umoja: Umoja) -> tuple[Office, asyncio.Server]:
    """The office and the server that hears M-Pesa's words for it."""
    callbacks = CallbackStore()
    server = await asyncio.start_server(callbacks.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    runtime = replace(umoja.runtime, public_url=f"http://127.0.0.1:{port}")
    callbacks.runtime = runtime
    for purpose in CallbackPurpose:
        token = callback_token(runtime.sealer, umoja.partner.id, purpose)
        callbacks.purposes[token] = (umoja.partner.id, purpose.value)
    umoja.connections._runtime = runtime
    return Office(runtime, umoja.partner, umoja.connections, umoja.sandbox, callbacks), server
