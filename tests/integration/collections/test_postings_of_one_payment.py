"""One payment that had several postings: none is taken for another, and each ends what was decided about it."""

import pytest
from sqlalchemy import text

from tests.integration.collections.test_overpayment import owed, with_one_savings_account
from vault_core.clients.mifos import MifosClient
from vault_core.clock import NAIROBI
from vault_core.collections import posting
from vault_core.collections.proof import collections_findings
from vault_core.collections.resuming import resume_collections
from vault_core.collections.settling import book_posted
from vault_core.database import in_transaction
from vault_core.errors import Conflict
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls, record_failure
from vault_core.outcome import Refusal, Refused, Unknown


async def _lost(*_args, **_kwargs):
    return Unknown("read timed out")


async def _refused(*_args, **_kwargs):
    return Refused("error.msg.savingsaccount.transaction.account.is.not.active", "not active", Refusal.TERMINAL)


async def test_a_part_that_never_arrived_is_not_taken_for_the_equal_part_that_stands_on_the_same_loan(office, monkeypatch):
    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "deposit", _refused)
        receipt = await office.customer_pays(2 * due, "000000041")
    await office.assign(receipt, "loan:000000041", post_all=True)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "repay", _lost)
        await office.settle()
    office.runtime.clock.pass_time(minutes=5)
    await office.settle()
    assert await office.posted_to("loans", 41) == [(receipt, due), (receipt, due)]
    assert await office.standing(receipt) == ("posted", False)


async def test_a_payment_moved_back_to_the_account_it_came_from_is_posted_there_although_its_first_call_was_lost(
    office, monkeypatch
):
    receipt = await office.customer_pays(500_00, "000000011")
    await office.move(receipt)
    await office.settle("collection.undo")
    await office.assign(receipt, "loan:000000011")
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "repay", _lost)
        await office.settle()
    office.runtime.clock.pass_time(minutes=5)
    await office.settle()
    assert await office.standing(receipt) == ("posted", False)
    assert await office.posted_to("loans", 11) == [(receipt, 500_00)]
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


async def test_a_rest_that_a_person_placed_ends_its_case_and_its_decision(office, monkeypatch):
    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "deposit", _refused)
        receipt = await office.customer_pays(due + 300_00, "000000041")
    await office.assign(receipt, "savings:000000042")
    await office.settle()
    assert await office.standing(receipt) == ("posted", False)
    assert (await office.open_case_kinds(), await office.decision_state(receipt)) == ([], "done")
    await office.move(receipt)  # and people can decide about it anew
    await office.settle("collection.undo")
    assert await office.standing(receipt) == ("suspense", True)


async def _entered_by_hand(office, receipt: str, shillings: int, what: str = "?command=repayment") -> int:
    [row] = [row for row in await office.rows("SELECT receipt, happened_at FROM collections") if row.receipt == receipt]
    body = {"transactionDate": f"{row.happened_at.astimezone(NAIROBI):%Y-%m-%d}", "transactionAmount": str(shillings),
            "receiptNumber": receipt, "paymentTypeId": 1, "locale": "en", "dateFormat": "yyyy-MM-dd"}  # fmt: skip
    answer = await office.runtime.http.post(
        f"{office.partner.mifos_url}/loans/11/transactions{what}",
        json=body,
        auth=("vault", "planted-password"),
        headers={"Fineract-Platform-TenantId": "default"},
    )
    answer.raise_for_status()
    return int(answer.json()["resourceId"])


async def test_what_was_entered_by_hand_while_it_was_in_suspense_is_not_posted_a_second_time(office):
    receipt = await office.customer_pays(500_00, "nobody")
    await _entered_by_hand(office, receipt, 500)
    await office.assign(receipt, "loan:000000011")
    await office.settle()
    assert await office.posted_to("loans", 11) == [(receipt, 500_00)]
    assert await office.standing(receipt) == ("posted", False)
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


async def test_what_was_entered_by_hand_with_another_amount_keeps_it_in_suspense_until_that_is_undone(office):
    receipt = await office.customer_pays(500_00, "nobody")
    transaction = await _entered_by_hand(office, receipt, 300)
    await office.assign(receipt, "loan:000000011")
    await office.settle()
    assert await office.standing(receipt) == ("suspense", True)
    assert "posts KES 300.00 instead of KES 500.00" in (await office.collection(receipt)).reason
    assert await office.posted_to("loans", 11) == [(receipt, 300_00)]
    await _entered_by_hand(office, receipt, 0, f"/{transaction}?command=undo")
    await office.assign(receipt, "loan:000000011")
    await office.settle()
    assert await office.posted_to("loans", 11) == [(receipt, 500_00)]
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


async def test_a_payment_that_is_told_late_is_not_posted_beside_what_was_entered_by_hand(office):
    receipt = "UKLATE0001"
    body = office.payment(receipt, 500_00, "000000011")
    office.runtime.clock.pass_time(hours=1)
    await office.confirm(body)
    await _entered_by_hand(office, receipt, 500)
    await office.settle()
    assert await office.posted_to("loans", 11) == [(receipt, 500_00)]
    assert await office.standing(receipt) == ("posted", False)


async def test_a_move_whose_call_was_given_up_by_an_unforeseen_error_is_taken_up_by_resume(office):
    receipt = await office.customer_pays(500_00, "000000011")
    await office.move(receipt)
    [row] = await office.rows("SELECT id FROM outbox WHERE kind = 'collection.undo'")
    for _ in range(office.runtime.pace.outbox_max_tries):
        office.runtime.clock.pass_time(days=1)
        calls = await claim_calls(office.runtime, [row.id])
        await record_failure(office.runtime, calls, "KeyError: nobody foresaw it")
    with pytest.raises(Conflict, match="being carried out"):
        await office.move(receipt)
    assert await resume_collections(office.runtime, "umoja", actor="ops:anne", reason="mended") == [receipt]
    await office.settle("collection.undo")
    assert await office.standing(receipt) == ("suspense", True)
    assert await office.decision_state(receipt) == "done"


async def test_what_was_entered_again_by_hand_after_it_was_undone_is_not_moved_away_from_under_it(office):
    receipt = await office.customer_pays(500_00, "000000011")
    [row] = await office.rows("SELECT mifos_transaction_id AS id FROM core_postings")
    await _entered_by_hand(office, receipt, 0, f"/{row.id}?command=undo")
    corrected = await _entered_by_hand(office, receipt, 300)
    await office.move(receipt, "loan:000000012")
    await office.settle("collection.undo")
    await office.settle()
    assert await office.posted_to("loans", 12) == []
    [case] = await office.cases()
    assert case.kind == "collection_not_moved"
    assert f"transaction {corrected}" in case.evidence["refused"]


async def test_a_payment_on_which_nobody_works_and_of_which_nobody_is_told_is_a_finding(office):
    receipt = await office.customer_pays(20_00, "nobody")
    await office.assign(receipt, "loan:000000012")
    assert await collections_findings(office.runtime.engine) == []
    async with office.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET state = 'done', done_at = due_at WHERE kind = 'collection.post'"))
    [finding] = await collections_findings(office.runtime.engine)
    assert str(finding) == f"payments_go_on: payment 600100 {receipt}: is posting, and no call is due about it"


async def test_a_receipt_in_small_letters_is_the_same_payment(office):
    await office.confirm(office.payment("UKSMALL001", 20_00, "000000012"), office.payment("uksmall001", 20_00, "000000012"))
    assert [row.receipt for row in await office.rows("SELECT receipt FROM collections")] == ["UKSMALL001"]


async def test_a_worker_that_comes_late_with_a_refusal_leaves_alone_what_a_person_has_assigned_since(office, monkeypatch):
    execute, repay = posting.execute, MifosClient.repay

    async def slow(*args, **kwargs):
        monkeypatch.setattr(posting, "execute", execute)
        answers = await execute(*args, **kwargs)
        monkeypatch.setattr(MifosClient, "repay", repay)
        office.runtime.clock.pass_time(minutes=10)  # its lease runs out: another worker writes down the refusal
        await office.settle()
        assert await office.standing("UKSLOW0001") == ("suspense", True)
        await office.assign("UKSLOW0001", "loan:000000012")
        return answers

    monkeypatch.setattr(MifosClient, "repay", _refused)
    monkeypatch.setattr(posting, "execute", slow)
    await office.pay("UKSLOW0001", 500_00, "000000011")
    await office.settle()
    assert await office.standing("UKSLOW0001") == ("posting", True)
    await office.settle()
    assert await office.posted_to("loans", 12) == [("UKSLOW0001", 500_00)]
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


@pytest.mark.parametrize("deposit", ["posted", "unknown", "refused"])
async def test_a_payment_is_booked_as_posted_once_all_of_it_is_and_not_for_a_part(office, deposit):
    await office.pay("UKPARTS001", 800_00, "000000012")
    [one] = await office.rows("SELECT id FROM collections")
    part = text(
        """
        INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt, amount_cents,
                                   transaction_date, created_at, state, mifos_transaction_id, posted_at)
        VALUES (:id, :partner_id, :kind, :subject, 21, :name, :name, 'UKPARTS001', :amount, :day, :now, :state,
                CASE WHEN :state = 'posted' THEN 7 END, CASE WHEN :state = 'posted' THEN CAST(:now AS timestamptz) END)
        """
    )
    now = office.runtime.clock.now()
    values = {"partner_id": office.partner.id, "subject": one.id, "day": now.date(), "now": now}

    async def booked(connection):
        await connection.execute(text("UPDATE collections SET state = 'posting'"))
        for kind, cents, state in (("repayment", 500_00, "posted"), ("deposit", 300_00, deposit)):
            new = {"id": office.runtime.new_id(), "kind": kind, "name": kind, "amount": cents, "state": state}
            await connection.execute(part, values | new)
        await book_posted(connection, office.runtime, [one.id])

    await in_transaction(office.runtime.engine, booked)
    whole = deposit == "posted"
    assert await office.standing("UKPARTS001") == ("posted" if whole else "posting", False)
    assert (
        await office.balance("loan_book"),
        await office.balance("savings_book"),
        await office.balance("collected_unposted"),
    ) == ((Money(-500_00), Money(300_00), ZERO) if whole else (ZERO, ZERO, Money(800_00)))
