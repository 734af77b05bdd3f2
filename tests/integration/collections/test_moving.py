"""A wrong posting is undone in Mifos X, shows there as reversed, and the money goes to the right account or to suspense."""

import pytest

from tests.integration.collections.office import ANNE
from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.mifos import MifosClient
from vault_core.errors import Conflict
from vault_core.money import ZERO, Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

UNDO = "collection.undo"


async def test_a_moved_payment_leaves_the_wrong_account_and_is_posted_to_the_right_one_and_told_to_its_owner(office):
    receipt = await office.customer_pays(500_00, "000000011")
    await office.settle("message.send")
    await office.move(receipt, "loan:000000012")
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)
    await office.settle(UNDO)
    assert await office.posted_to("loans", 11) == []
    assert await office.standing(receipt) == ("posting", True)
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)
    assert await office.open_case_kinds() == ["unmatched_payment"]
    await office.settle()
    await office.settle("message.send")
    assert await office.posted_to("loans", 12) == [(receipt, 500_00)]
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)
    assert (await office.open_case_kinds(), await office.decision_state(receipt)) == ([], "done")
    assert [phone for phone, _ in await office.texts()] == ["254712000001", "254712000002"]
    [row] = await office.rows(
        "SELECT count(*) AS n FROM ledger_reversals r JOIN ledger_transactions t ON t.id = r.original WHERE t.kind = 'collection_posted'"
    )
    assert row.n == 1


async def test_without_an_account_the_money_stays_in_suspense_and_can_be_moved_twice(office):
    receipt = await office.customer_pays(500_00, "000000022")
    await office.move(receipt)
    await office.settle(UNDO)
    assert await office.standing(receipt) == ("suspense", True)
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)
    assert await office.decision_state(receipt) == "done"
    await office.assign(receipt, "savings:id:21")
    await office.settle()
    await office.move(receipt, "loan:000000012")
    await office.settle(UNDO)
    await office.settle()
    assert (await office.posted_to("savings", 22), await office.posted_to("savings", 21)) == ([], [])
    assert await office.posted_to("loans", 12) == [(receipt, 500_00)]
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


async def test_a_posting_that_an_officer_undid_by_hand_is_not_undone_again(office):
    receipt = await office.customer_pays(500_00, "000000011")
    [row] = await office.rows("SELECT mifos_transaction_id AS id, transaction_date AS day FROM core_postings")
    url = f"{office.partner.mifos_url}/loans/11/transactions/{row.id}?command=undo"
    body = {"transactionDate": str(row.day), "transactionAmount": "0", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    headers = {"Fineract-Platform-TenantId": "default"}
    (await office.runtime.http.post(url, json=body, auth=("vault", "planted-password"), headers=headers)).raise_for_status()
    told = NewCase("posted_payment_undone", f"{office.partner.c2b_short_code} {receipt}", office.partner.id, Money(500_00))
    async with office.runtime.engine.begin() as connection:  # as the hook about it does
        await open_cases(connection, office.runtime.clock, office.runtime.new_id, [told])
    await office.move(receipt)
    await office.settle(UNDO)
    assert await office.standing(receipt) == ("suspense", True)
    assert await office.open_case_kinds() == ["unmatched_payment"]
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)


async def test_where_mifos_x_refuses_to_undo_it_nothing_moves_and_a_case_says_so(office, monkeypatch):
    async def refuse(*_args, **_kwargs):
        return Refused("error.msg.loan.transaction.update.not.allowed", "not allowed", Refusal.TERMINAL)

    receipt = await office.customer_pays(500_00, "000000011")
    await office.move(receipt, "loan:000000012")
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "undo_repayment", refuse)  # the sandbox undoes whatever it is asked to
        await office.settle(UNDO)
    assert await office.standing(receipt) == ("posted", False)
    assert await office.posted_to("loans", 11) == [(receipt, 500_00)]
    assert (await office.open_case_kinds(), await office.decision_state(receipt)) == (["collection_not_moved"], "failed")
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)
    await office.move(receipt)  # and can be tried again
    await office.settle(UNDO)
    assert await office.standing(receipt) == ("suspense", True)


@pytest.mark.parametrize("undone", [False, True])
async def test_an_undoing_is_believed_when_mifos_x_shows_it_and_not_for_an_answer(office, monkeypatch, undone):
    undo = MifosClient.undo_repayment

    async def answer(client, loan_id, transaction_id, *, on):
        if undone:  # and the answer is lost
            await undo(client, loan_id, transaction_id, on=on)
            return Unknown("read timed out")
        return Accepted(None)

    receipt = await office.customer_pays(500_00, "000000011")
    await office.move(receipt)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "undo_repayment", answer)
        await office.settle(UNDO)
    assert (await office.standing(receipt), await office.decision_state(receipt)) == (("posted", False), "approved")
    assert await office.balance("loan_book") == Money(-500_00)
    office.runtime.clock.pass_time(hours=1)
    await office.settle(UNDO)
    assert (await office.standing(receipt), await office.posted_to("loans", 11)) == (("suspense", True), [])
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)


async def test_a_move_above_the_limit_needs_a_second_person_and_is_undone_once_however_often_it_is_worked_on(office):
    receipt = await office.customer_pays(60_000_00, "000000022")
    await office.move(receipt, "savings:id:21")
    await office.settle(UNDO)
    assert await office.standing(receipt) == ("posted", False)
    with pytest.raises(Conflict):
        await office.approve(receipt, actor=ANNE)
    await office.approve(receipt)
    for _ in range(3):
        await office.settle(UNDO)
        office.runtime.clock.pass_time(minutes=10)
        await office.settle()
    assert await office.posted_to("savings", 21) == [(receipt, 60_000_00)]
    assert await office.posted_to("savings", 22) == []
    assert await office.books() == (ZERO, ZERO, ZERO, Money(60_000_00))
