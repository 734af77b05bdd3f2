"""Top-ups, and what else Mifos X would refuse to disburse: held against the sandbox and, when it is named, a real server."""

from datetime import timedelta
from uuid import uuid4

from tests.integration.clients.conftest import NewLoan
from tests.integration.clients.test_mifos_contract import a_receiver, write
from vault_core.clients.mifos import HOOK_EVENTS
from vault_core.disbursements.loan_check import Changed, ToPay, check_loan
from vault_core.disbursements.tranches import NoPart, Part, part_of
from vault_core.money import Money
from vault_core.outcome import Accepted, Refused, Unknown

PRINCIPAL = Money.shillings(15_000)


async def older_loan(mifos) -> NewLoan:
    older = await mifos.approved_loan(6_000)
    on = older.approved_on
    assert isinstance(await mifos.client.disburse(older.id, await write(mifos, Money.shillings(6_000), on=on)), Accepted)
    return older


async def test_what_is_left_of_a_top_up_is_the_principal_less_what_pays_the_older_loan_off(mifos):
    older = await older_loan(mifos)
    owed = (await mifos.client.loan(older.id)).total_outstanding
    topped_up = await mifos.approved_loan(15_000, topping_up=older)
    seen = await mifos.client.loan(topped_up.id)
    assert (seen.older_loan_id, seen.payoff, seen.topped_up) == (older.id, owed, None)
    assert part_of(seen, 1) == Part(1, 1, PRINCIPAL, PRINCIPAL - owed, older_loan_id=older.id, payoff=owed)


async def test_a_top_up_takes_no_external_id_and_is_posted_once_by_its_key_and_receipt(mifos):
    older = await older_loan(mifos)
    owed = (await mifos.client.loan(older.id)).total_outstanding
    topped_up = await mifos.approved_loan(15_000, topping_up=older)
    with_id = await mifos.client.disburse(topped_up.id, await write(mifos, PRINCIPAL))
    assert isinstance(with_id, Unknown)
    assert "duplicate.externalId" in with_id.cause
    assert (await mifos.client.loan(topped_up.id)).status_id == 200
    disbursal = await write(mifos, PRINCIPAL, external_id=None)
    posted = await mifos.client.disburse(topped_up.id, disbursal)
    assert isinstance(posted, Accepted)
    again = await mifos.client.disburse(topped_up.id, disbursal)
    assert (again.value.transaction_id, again.value.from_cache) == (posted.value.transaction_id, True)
    read = await mifos.client.loan(topped_up.id)
    parts = {each.receipt: (each.id, each.amount) for each in read.transactions if each.kind == "disbursement"}
    assert parts[disbursal.receipt] == (posted.value.transaction_id, PRINCIPAL - owed)
    assert (len(parts), parts[None][1], read.topped_up, read.net_disbursal) == (2, owed, owed, PRINCIPAL - owed)
    assert (await mifos.client.loan(older.id)).status_id == 600


async def test_what_is_paid_to_the_older_loan_meanwhile_is_seen_at_the_next_reading(mifos):
    older = await older_loan(mifos)
    topped_up = await mifos.approved_loan(15_000, topping_up=older)
    before = part_of(await mifos.client.loan(topped_up.id), 1)
    assert isinstance(before, Part)
    to_pay = ToPay(1, before.principal, before.payout, topped_up.approved_on, "254712345678")
    await mifos.client.repay(older.id, await write(mifos, Money.shillings(500)))
    seen = await mifos.client.loan(topped_up.id)
    after = part_of(seen, 1)
    assert isinstance(after, Part)
    assert after.payout == before.payout + Money.shillings(500)
    assert isinstance(check_loan(seen, to_pay, today=mifos.today), Changed)


async def test_a_top_up_of_a_loan_that_is_paid_off_has_nothing_to_pay_and_is_refused(mifos):
    older = await older_loan(mifos)
    topped_up = await mifos.approved_loan(15_000, topping_up=older)
    owed = (await mifos.client.loan(older.id)).total_outstanding
    await mifos.client.repay(older.id, await write(mifos, owed))
    assert isinstance(part_of(await mifos.client.loan(topped_up.id), 1), NoPart)
    refused = await mifos.client.disburse(topped_up.id, await write(mifos, PRINCIPAL, external_id=None))
    assert isinstance(refused, Refused)
    assert refused.code == "error.msg.loan.to.be.closed.with.topup.is.not.active"


async def test_a_loan_is_refused_after_its_fixed_first_repayment_and_tells_that_day(mifos):
    fresh = await mifos.approved_loan(6_000, first_repayment=mifos.today - timedelta(days=1), approved_before=10)
    seen = await mifos.client.loan(fresh.id)
    assert seen.first_repayment_on == mifos.today - timedelta(days=1)
    refused = await mifos.client.disburse(fresh.id, await write(mifos, Money.shillings(6_000)))
    assert isinstance(refused, Refused)
    assert refused.code == "error.msg.loanschedule.schedule.due.date.not.valid"


async def test_a_hook_of_before_is_given_the_events_that_it_lacks(mifos):
    async with a_receiver() as (base, _):
        url = f"{base}/i/{uuid4().hex}/"
        old = {
            "name": "Web",
            "displayName": "Payment Vault",
            "isActive": True,
            "config": {"Payload URL": url, "Content Type": "json"},
        }
        of_before = [{"entityName": "LOAN", "actionName": "APPROVE"}, {"entityName": "CLIENT", "actionName": "CREATE"}]
        made = (await mifos.call("POST", "/hooks", {**old, "events": of_before}))["resourceId"]
        try:
            (hook,) = [each for each in await mifos.client.hooks() if each.id == made]
            await mifos.client.renew_hook(hook, url)
            (hook,) = [each for each in await mifos.client.hooks() if each.id == made]
            assert (set(hook.events), hook.url, hook.active) == ({*HOOK_EVENTS, ("CLIENT", "CREATE")}, url, True)
        finally:
            await mifos.delete_hook(made)


async def test_the_products_tell_which_of_them_take_the_expected_day_only(mifos):
    fresh = await mifos.approved_loan(6_000, punctual=True)
    product_id = (await mifos.client.loan(fresh.id)).product_id
    only = {product.id: product.expected_day_only for product in await mifos.client.loan_products()}
    assert only[product_id] is True
    assert only[(await mifos.client.loan((await mifos.approved_loan(6_000)).id)).product_id] is False
