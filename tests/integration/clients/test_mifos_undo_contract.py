"""Undoing, over-payment and paid-off loans, as the client and the services that decide on payments see them: on the sandbox, and on
a real server when VAULT_TEST_MIFOS_URL is set (conftest.py)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from tests.integration.clients.test_mifos_contract import disbursed_loan, write
from tests.integration.collections.conftest import Umoja
from tests.integration.collections.office import ANNE, HANDLERS
from vault_core.collections.assigning import Wish, assign, move
from vault_core.collections.overpayment import owed_on
from vault_core.collections.proof import collections_findings
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls
from vault_core.outcome import Accepted, Refused, Unknown
from vault_core.partners.collection_settings import set_collection_settings
from vault_core.partners.connections import Connections
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.registration import register_partner


async def standing(server, loan_id: int) -> list[int]:
    loan = await server.client.loan(loan_id)
    return [each.id for each in loan.transactions if each.kind == "repayment" and not each.reversed]


async def test_an_undone_repayment_shows_as_reversed_and_gives_the_debt_back_and_is_not_undone_twice(mifos):
    loan = await disbursed_loan(mifos)
    before = (await mifos.client.loan(loan.id)).total_outstanding
    repayment = await write(mifos, Money.shillings(500))
    posted = await mifos.client.repay(loan.id, repayment)
    undone = await mifos.client.undo_repayment(loan.id, posted.value.transaction_id, on=mifos.today)
    assert isinstance(undone, Accepted), undone
    assert (await mifos.client.loan(loan.id)).total_outstanding == before
    assert await standing(mifos, loan.id) == []
    again = await mifos.client.undo_repayment(loan.id, posted.value.transaction_id, on=mifos.today)
    assert isinstance(again, Accepted | Refused | Unknown)  # whatever it says, nothing is undone but that one
    assert (await mifos.client.loan(loan.id)).total_outstanding == before
    burnt = await mifos.client.repay(loan.id, await write(mifos, Money.shillings(500), external_id=repayment.external_id))
    assert isinstance(burnt, Unknown)


async def test_an_undone_deposit_shows_as_reversed_and_takes_the_balance_back(mifos):
    savings_id, _ = await mifos.active_savings()
    kept = await mifos.client.deposit(savings_id, await write(mifos, Money.shillings(300), external_id=None))
    posted = await mifos.client.deposit(savings_id, await write(mifos, Money.shillings(200), external_id=None))
    assert isinstance(await mifos.client.undo_deposit(savings_id, posted.value.transaction_id), Accepted)
    account = await mifos.client.savings_account(savings_id)
    live = [each.id for each in account.transactions if each.kind == "deposit" and not each.reversed]
    assert (account.balance, live) == (Money.shillings(300), [kept.value.transaction_id])


async def test_a_loan_tells_what_is_overpaid_and_is_active_again_when_that_is_undone(mifos):
    loan = await disbursed_loan(mifos, 2000)
    due = (await mifos.client.loan(loan.id)).total_outstanding
    posted = await mifos.client.repay(loan.id, await write(mifos, due + Money.shillings(150)))
    seen = await mifos.client.loan(loan.id)
    assert (seen.status_id, seen.total_outstanding, seen.overpaid, owed_on(seen)) == (700, ZERO, Money.shillings(150), ZERO)
    assert isinstance(await mifos.client.undo_repayment(loan.id, posted.value.transaction_id, on=mifos.today), Accepted)
    seen = await mifos.client.loan(loan.id)
    assert (seen.status_id, seen.total_outstanding, seen.overpaid) == (300, due, ZERO)


async def test_a_loan_that_is_paid_off_owes_nothing_and_takes_more_as_overpaid(mifos):
    loan = await disbursed_loan(mifos, 2000)
    due = (await mifos.client.loan(loan.id)).total_outstanding
    await mifos.client.repay(loan.id, await write(mifos, due))
    seen = await mifos.client.loan(loan.id)
    assert (seen.status_id, owed_on(seen)) == (600, ZERO)
    assert isinstance(await mifos.client.repay(loan.id, await write(mifos, Money.shillings(10))), Accepted)
    assert (await mifos.client.loan(loan.id)).overpaid == Money.shillings(10)


@dataclass
class Desk(Umoja):
    """A lender whose Mifos X is the server of the contract."""

    server: object

    async def paid(self, cents: int, reference: str) -> str:
        receipt = f"U{uuid4().hex[:9].upper()}"
        await self.pay(receipt, cents, reference)
        await self.settle("collection.post")
        return receipt

    async def settle(self, kind: str) -> None:
        for _ in range(3):
            ids = [row.id for row in await self.rows("SELECT id, kind FROM outbox ORDER BY id") if row.kind == kind]
            await HANDLERS[kind](self.runtime, self.connections, await claim_calls(self.runtime, ids))

    async def books(self) -> tuple[Money, Money, Money, Money]:
        assert await collections_findings(self.runtime.engine) == []
        codes = ("suspense", "collected_unposted", "loan_book", "savings_book")
        suspense, unposted, loans, savings = [await self.balance(code) for code in codes]
        return suspense, unposted, loans, savings


@pytest.fixture
async def desk(mifos, runtime) -> AsyncIterator[Desk]:
    login = mifos.login
    described = f"""
[partner]
name = "umoja"
display_name = "Umoja Credit"
[mifos]
url = "{login.url}"
tenant = "{login.tenant}"
user = "{login.user}"
password = "{login.password}"
[mpesa]
url = "http://127.0.0.1:9"
consumer_key = "ck"
consumer_secret = "cs"
initiator = "api"
security_credential = "sc"
b2c_short_code = "600101"
c2b_short_code = "600100"
[sms]
url = "http://127.0.0.1:9"
user = "sim"
api_key = "k"
sender = "LENDER"
price = "0.80"
[charges]
system_fee = "20"
[[contacts]]
role = "operations"
name = "Ops"
phone = "0712999999"
"""
    partner = await register_partner(runtime, parse_partner_file(described), actor="ops:test")
    connections = Connections(runtime)
    yield Desk(runtime, partner, connections, "", mifos)
    await connections.aclose()


async def test_a_payment_is_assigned_moved_and_put_in_suspense_with_zero_left_over(mifos, desk):
    wrong, right = await disbursed_loan(mifos), await disbursed_loan(mifos)
    savings_id, external_id = await mifos.active_savings()
    receipt = await desk.paid(500_00, "nobody-knows-this")
    assert await desk.books() == (Money(500_00), ZERO, ZERO, ZERO)

    await assign(desk.runtime, desk.connections, Wish(receipt, "by slip", f"loan:{wrong.external_id}"), actor=ANNE)
    await desk.settle("collection.post")
    assert len(await standing(mifos, wrong.id)) == 1
    assert await desk.books() == (ZERO, ZERO, Money(-500_00), ZERO)

    desk.runtime.clock.pass_time(seconds=1)
    await move(desk.runtime, desk.connections, Wish(receipt, "other loan", f"loan:id:{right.id}"), actor=ANNE)
    await desk.settle("collection.undo")
    await desk.settle("collection.post")
    assert (await standing(mifos, wrong.id), len(await standing(mifos, right.id))) == ([], 1)
    assert await desk.books() == (ZERO, ZERO, Money(-500_00), ZERO)

    desk.runtime.clock.pass_time(seconds=1)
    await move(desk.runtime, desk.connections, Wish(receipt, "savings after all", f"savings:{external_id}"), actor=ANNE)
    await desk.settle("collection.undo")
    await desk.settle("collection.post")
    assert (await mifos.client.savings_account(savings_id)).balance == Money(500_00)
    assert await desk.books() == (ZERO, ZERO, ZERO, Money(500_00))

    desk.runtime.clock.pass_time(seconds=1)
    await move(desk.runtime, desk.connections, Wish(receipt, "nobody's"), actor=ANNE)
    await desk.settle("collection.undo")
    assert (await mifos.client.savings_account(savings_id)).balance == ZERO
    assert await desk.books() == (Money(500_00), ZERO, ZERO, ZERO)


@pytest.mark.parametrize("policy", ["post_all", "hold", "to_savings"])
async def test_too_much_on_a_loan_goes_as_the_partner_says(mifos, desk, policy):
    await set_collection_settings(desk.runtime, desk.partner, {"overpayment": policy}, actor="ops:test")
    loan = await disbursed_loan(mifos, 2000)
    due = (await mifos.client.loan(loan.id)).total_outstanding
    await desk.paid(due.cents + 100_00, loan.external_id)
    seen = await mifos.client.loan(loan.id)
    if policy == "post_all":
        assert (seen.status_id, seen.overpaid) == (700, Money(100_00))
        assert await desk.books() == (ZERO, ZERO, -due - Money(100_00), ZERO)
    else:  # its client has no savings account that could take the rest
        assert (seen.status_id, seen.total_outstanding) == (300, due)
        assert await desk.books() == (due + Money(100_00), ZERO, ZERO, ZERO)
