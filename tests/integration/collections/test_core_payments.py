"""Payments that the lender's own people make or correct in Mifos X, as its web hooks hint at them."""

import json
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.integration.collections.conftest import Umoja
from vault_core.clients.mifos_values import CoreWrite
from vault_core.clock import business_day
from vault_core.collections.core_payments import handle_payment_hooks
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.money import Money
from vault_core.outcome import Accepted
from vault_core.partners.core_payment_texts import set_core_payment_texts
from vault_core.partners.partner import load_partner

_STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes, parsed,
                                next_sweep_at)
    VALUES (:id, :partner_id, 'mifos_hook', 'mifos.events', :now, '127.0.0.1', 'application/json', :sealed, 1, true, :now)
    """
)
EVENTS = {"loan": ("LOAN", "REPAYMENT", "ADJUST"), "savings": ("SAVINGSACCOUNT", "DEPOSIT", "UNDOTRANSACTION")}
PATHS = {"loan": "loans", "savings": "savingsaccounts"}


class Office:
    """The lender's people at their Mifos X, and the hooks it posts."""

    def __init__(self, umoja: Umoja) -> None:
        self.umoja = umoja

    async def enter(self, kind: str, account_id: int, cents: int, receipt: str) -> int:
        """Somebody enters a payment by hand; the id of its transaction."""
        client = await self.umoja.connections.mifos(self.umoja.partner.id)
        async with self.umoja.runtime.engine.connect() as connection:
            payment_type = (await load_partner(connection, id=self.umoja.partner.id)).mifos_payment_type_id
        today = business_day(self.umoja.runtime.clock.now())
        write = CoreWrite(Money(cents), today, payment_type, receipt, None, None, None)
        done = await (client.repay(account_id, write) if kind == "loan" else client.deposit(account_id, write))
        assert isinstance(done, Accepted), done
        return done.value.transaction_id

    async def undo(self, kind: str, account_id: int, transaction_id: int) -> None:
        day = business_day(self.umoja.runtime.clock.now()).isoformat()
        answer = await self.umoja.runtime.http.post(
            f"{self.umoja.sandbox}/mifos/alpha/fineract-provider/api/v1/{PATHS[kind]}/{account_id}/transactions/{transaction_id}",
            params={"command": "undo"},
            json={"transactionDate": day, "transactionAmount": 0, "locale": "en", "dateFormat": "yyyy-MM-dd"},
            headers={"Fineract-Platform-TenantId": "default"},
            auth=("vault", "planted-password"),
        )
        answer.raise_for_status()

    async def hook(self, kind: str, account_id: int, transaction_id: int, *, undone: bool = False, **request: str) -> str:
        """A hook comes and is handled; what it did."""
        entity, made, corrected = EVENTS[kind]
        key = "loanId" if kind == "loan" else "savingsId"
        response = {key: account_id, "resourceId": transaction_id}
        body = {"entityName": entity, "actionName": corrected if undone else made, "request": request, "response": response}
        return await self.deliver(json.dumps(body).encode())

    async def deliver(self, body: bytes) -> str:
        event_id: UUID = self.umoja.runtime.new_id()
        row = {"id": event_id, "partner_id": self.umoja.partner.id, "now": self.umoja.runtime.clock.now()}
        sealed = self.umoja.runtime.sealer.seal(body, bound_to=sealed_body_binding(event_id))
        async with self.umoja.runtime.engine.begin() as connection:
            await connection.execute(_STORE, row | {"sealed": sealed})
        rest = await handle_payment_hooks(self.umoja.runtime, self.umoja.connections, [event_id])
        [event] = await self.umoja.rows(f"SELECT state, effect FROM inbound_events WHERE id = '{event_id}'")  # noqa: S608
        return "left to the others" if rest else event.effect or event.state

    async def text_clients(self) -> None:
        await set_core_payment_texts(self.umoja.runtime, self.umoja.partner, on=True, actor="ops:test")


@pytest.fixture
def branch(umoja: Umoja) -> Office:
    return Office(umoja)


@pytest.mark.parametrize(("kind", "account_id", "phone"), [("loan", 11, "254712000001"), ("savings", 21, "254712000002")])
async def test_a_payment_entered_there_is_recorded_and_the_client_texted_once_and_not_on_its_undoing(
    branch, kind, account_id, phone
):
    await branch.text_clients()
    made = await branch.enter(kind, account_id, 300_00, "CASH-7")
    assert await branch.hook(kind, account_id, made, receiptNumber="CASH-7") == "recorded: not ours; the client is texted"
    assert await branch.hook(kind, account_id, made, receiptNumber="CASH-7") == "a payment that is recorded already"
    await branch.undo(kind, account_id, made)
    assert await branch.hook(kind, account_id, made, undone=True) == "1 recorded payment(s) undone"
    await branch.umoja.work("message.send")

    [row] = await branch.umoja.rows("SELECT * FROM core_payments")
    assert (row.account_kind, row.account_id, row.transaction_id, row.amount_cents) == (kind, account_id, made, 300_00)
    assert (row.receipt, row.undone_at) == ("CASH-7", branch.umoja.runtime.clock.now())
    [(to, words)] = await branch.umoja.texts()
    assert to == phone
    assert "Received KES 300.00" in words
    assert "CASH-7" in words
    assert await branch.umoja.cases() == []


async def test_clients_are_texted_only_where_the_partner_wants_it(branch):
    made = await branch.enter("loan", 11, 300_00, "CASH-7")
    assert await branch.hook("loan", 11, made) == "recorded: not ours"
    assert await branch.umoja.rows("SELECT 1 FROM messages") == []


async def test_a_payment_of_ours_is_recognised_without_a_read_and_its_undoing_is_a_case(branch):
    umoja = branch.umoja
    await umoja.pay("OURS000001", 500_00, "000000011")
    await umoja.work()
    [posting] = await umoja.rows("SELECT * FROM core_postings")
    ours = posting.mifos_transaction_id
    await umoja.control("setup", {})
    before = len(await umoja.rows("SELECT 1 FROM messages"))
    umoja.connections.forget(umoja.partner.id)

    assert await branch.hook("loan", 11, ours, externalId=posting.external_id) == "a payment that we posted"
    await branch.undo("loan", 11, ours)
    assert await branch.hook("loan", 11, ours, undone=True) == "undone there, a case is open: OURS000001"
    assert await branch.hook("loan", 11, ours, undone=True) == "undone there, a case is open: OURS000001"

    [case] = await umoja.cases()
    assert (case.kind, case.subject, case.amount) == ("posted_payment_undone", "600100 OURS000001", Money(500_00))
    assert case.evidence["transaction"] == ours
    assert await umoja.rows("SELECT 1 FROM core_payments") == []
    assert len(await umoja.rows("SELECT 1 FROM messages")) == before


async def test_while_our_call_is_under_way_its_receipt_is_ours_and_afterwards_a_second_entry_of_it_is_not(branch):
    umoja = branch.umoja
    await umoja.pay("OURS000001", 500_00, "000000011")
    await umoja.work()
    [ours] = (row.mifos_transaction_id for row in await umoja.rows("SELECT mifos_transaction_id FROM core_postings"))
    second = await branch.enter("loan", 11, 500_00, "OURS000001")
    assert "a case is open" in await branch.hook("loan", 11, second, receiptNumber="OURS000001")
    assert [case.kind for case in await umoja.cases()] == ["payment_entered_by_hand"]

    async with umoja.runtime.engine.begin() as connection:  # as it stands before the answer is written down
        await connection.execute(
            text("UPDATE core_postings SET state = 'unknown', mifos_transaction_id = NULL, posted_at = NULL")
        )
    assert await branch.hook("loan", 11, ours, receiptNumber="OURS000001") == "a payment that we posted"


async def test_a_receipt_of_ours_that_somebody_entered_by_hand_is_a_case(branch):
    await branch.text_clients()
    await branch.umoja.pay("HAND000001", 500_00, "nobody")
    await branch.umoja.work()
    made = await branch.enter("loan", 11, 500_00, "HAND000001")
    assert "a case is open" in await branch.hook("loan", 11, made, receiptNumber="HAND000001")

    cases = {case.kind: case for case in await branch.umoja.cases()}
    assert set(cases) == {"unmatched_payment", "payment_entered_by_hand"}
    assert cases["payment_entered_by_hand"].evidence["state_here"] == "suspense"
    assert await branch.umoja.rows("SELECT 1 FROM messages") == []


async def test_a_hook_lies_and_changes_nothing(branch):
    assert await branch.hook("loan", 11, 424242) == "nothing to do: the account shows no payment by it"
    assert "does not exist" in await branch.hook("loan", 4711, 1)
    assert await branch.umoja.rows("SELECT 1 FROM core_payments") == []
    assert await branch.umoja.cases() == []


async def test_hooks_about_other_things_are_left_to_others_and_unread_accounts_to_the_sweep(branch):
    approved = {"entityName": "LOAN", "actionName": "APPROVE", "response": {"loanId": 13, "resourceId": 13}}
    assert await branch.deliver(json.dumps(approved).encode()) == "left to the others"
    assert await branch.deliver(b"<html>") == "left to the others"
    async with branch.umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET mifos_url = 'http://127.0.0.1:9'"))
    branch.umoja.connections.forget(branch.umoja.partner.id)
    assert await branch.hook("loan", 11, 1) == "stored"
