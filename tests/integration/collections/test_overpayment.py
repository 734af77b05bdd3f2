"""More than is owed goes where the partner's policy says, by what is owed right before the posting."""

import pytest

from vault_core.money import ZERO, Money


async def owed(office, loan_id: int) -> int:
    return (await office.truth())["mifos"]["alpha"]["loans"][str(loan_id)]["outstanding_cents"]


async def test_by_default_all_of_it_is_posted_and_the_text_says_what_is_too_much(office):
    due = await owed(office, 12)
    receipt = await office.customer_pays(due + 200_00, "000000012")
    await office.settle("message.send")
    assert await office.posted_to("loans", 12) == [(receipt, due + 200_00)]
    [(_, said)] = await office.texts()
    assert "New balance KES 0.00 (KES 200.00 overpaid)" in said


async def test_held_it_goes_to_suspense_and_a_person_can_have_all_of_it_posted(office):
    await office.setting(overpayment="hold")
    due = await owed(office, 12)
    fits = await office.customer_pays(100_00, "000000012")
    receipt = await office.customer_pays(due, "000000012")
    assert await office.posted_to("loans", 12) == [(fits, 100_00)]
    row = await office.collection(receipt)
    assert row.state == "suspense"
    assert "is more than the" in row.reason
    assert await office.books() == (Money(due), ZERO, Money(-100_00), ZERO)
    from vault_core.errors import Conflict

    with pytest.raises(Conflict, match="--post-all"):
        await office.assign(receipt, "loan:000000012")
    await office.assign(receipt, "loan:000000012", post_all=True)
    await office.settle()
    assert await office.posted_to("loans", 12) == [(fits, 100_00), (receipt, due)]
    assert await office.books() == (ZERO, ZERO, Money(-100_00 - due), ZERO)


async def with_one_savings_account(office) -> None:
    await office.control(
        "setup", {"mifos": {"alpha": {"clients": [{"id": 4, "first_name": "Ann", "last_name": "Mutua", "mobile_no": "0712000004"}],
        "loans": [{"id": 41, "client": 4, "product": 1, "principal_cents": 5_000_00, "status": 300}], "savings": [{"id": 42, "client": 4}]}}}
    )  # fmt: skip


async def test_the_rest_goes_to_the_clients_one_savings_account_in_one_text_and_is_taken_back_whole(office):
    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    receipt = await office.customer_pays(due + 300_00, "000000041")
    await office.settle("message.send")
    assert (await office.posted_to("loans", 41), await office.posted_to("savings", 42)) == ([(receipt, due)], [(receipt, 300_00)])
    assert await office.standing(receipt) == ("posted", False)
    assert await office.books() == (ZERO, ZERO, Money(-due), Money(300_00))
    [(_, said)] = await office.texts()
    assert f"{Money(due)} for loan 000000041, new balance KES 0.00; KES 300.00 for savings 000000042, new" in said

    await office.move(receipt, "loan:000000012", post_all=True)
    await office.settle("collection.undo")
    assert (await office.posted_to("loans", 41), await office.posted_to("savings", 42)) == ([], [])
    assert await office.books() == (Money(due + 300_00), ZERO, ZERO, ZERO)
    await office.settle()
    assert await office.posted_to("loans", 12) == [(receipt, due + 300_00)]


async def test_a_loan_that_was_paid_off_between_match_and_posting_sends_all_of_it_to_savings(office, monkeypatch):
    from vault_core.collections import posting

    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    judge = posting.judge_overpayments

    async def after_somebody_paid_it_off(runtime, connections, pending):
        monkeypatch.setattr(posting, "judge_overpayments", judge)
        client = await connections.mifos(office.partner.id)
        from vault_core.clients.mifos import CoreWrite

        day = (await client.loan(41)).approved_on
        write = CoreWrite(Money(due), day, office.partner.mifos_payment_type_id, "CASH1", None, "cash-1", "cash-1")
        await client.repay(41, write)
        return await judge(runtime, connections, pending)

    monkeypatch.setattr(posting, "judge_overpayments", after_somebody_paid_it_off)
    receipt = await office.customer_pays(200_00, "000000041")
    assert (await office.posted_to("savings", 42), await owed(office, 41)) == ([(receipt, 200_00)], 0)
    assert (await office.collection(receipt)).account_no == "000000042"
    assert await office.books() == (ZERO, ZERO, ZERO, Money(200_00))


async def test_without_one_open_savings_account_the_rest_is_held(office):
    await office.setting(overpayment="to_savings")
    due = await owed(office, 12)  # of client 2, who has two savings accounts
    receipt = await office.customer_pays(due + 1_00, "000000012")
    assert "2 open savings accounts" in (await office.collection(receipt)).reason
    assert await office.books() == (Money(due + 1_00), ZERO, ZERO, ZERO)


async def test_when_the_deposit_of_the_rest_is_refused_a_person_places_it_and_the_repayment_stands(office, monkeypatch):
    from vault_core.clients.mifos import MifosClient
    from vault_core.outcome import Refusal, Refused

    async def refuse(*_args, **_kwargs):
        return Refused("error.msg.savingsaccount.transaction.account.is.not.active", "not active", Refusal.TERMINAL)

    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "deposit", refuse)  # closed between the reading and the posting
        receipt = await office.customer_pays(due + 300_00, "000000041")
    assert await office.standing(receipt) == ("needs_review", False)
    assert await office.open_case_kinds() == ["collection_not_posted"]
    assert await office.books() == (ZERO, Money(due + 300_00), ZERO, ZERO)
    decision = await office.assign(receipt, "savings:000000042")
    assert decision.amount == Money(300_00)
    await office.settle()
    assert (await office.posted_to("loans", 41), await office.posted_to("savings", 42)) == ([(receipt, due)], [(receipt, 300_00)])
    assert await office.books() == (ZERO, ZERO, Money(-due), Money(300_00))


async def told(office, receipt: str, cents: int, reference: str) -> None:
    """A payment that is booked and that no worker has taken up yet."""
    await office.pay(receipt, cents, reference)


def meanwhile(monkeypatch, act) -> None:
    """Has `act` done once, right after what is owed has been read."""
    from vault_core.collections import posting

    judge = posting.judge_overpayments

    async def then(runtime, connections, pending):
        judged = await judge(runtime, connections, pending)
        monkeypatch.setattr(posting, "judge_overpayments", judge)
        await act()
        return judged

    monkeypatch.setattr(posting, "judge_overpayments", then)


@pytest.mark.parametrize(("policy", "reference", "loan"), [("hold", "000000012", 12), ("to_savings", "000000041", 41)])
async def test_payments_that_two_workers_post_to_one_loan_are_together_no_more_than_is_owed(
    office, monkeypatch, policy, reference, loan
):
    await with_one_savings_account(office)
    await office.setting(overpayment=policy)
    due = await owed(office, loan)
    await told(office, "FIRST00001", due - 100_00, reference)
    await told(office, "SECOND0001", 500_00, reference)
    first, second = sorted([row.id for row in await office.rows("SELECT id FROM outbox ORDER BY id")])
    meanwhile(monkeypatch, lambda: work_on(office, second))
    await work_on(office, first)
    assert await owed(office, loan) == due - 500_00
    office.runtime.clock.pass_time(minutes=1)
    await office.settle()
    assert (await office.posted_to("loans", loan))[0] == ("SECOND0001", 500_00)
    if policy == "hold":
        assert (await office.standing("FIRST00001"), await owed(office, loan)) == (("suspense", True), due - 500_00)
    else:
        assert (await owed(office, loan), await office.posted_to("savings", 42)) == (0, [("FIRST00001", 400_00)])
    assert [row.tries for row in await office.rows("SELECT tries FROM outbox WHERE kind = 'collection.post'")] == [1, 1]
    await office.books()


async def test_a_posting_to_the_loan_whose_answer_was_lost_since_it_was_read_counts_too(office, monkeypatch):
    from vault_core.clients.mifos import MifosClient
    from vault_core.outcome import Unknown

    await office.setting(overpayment="hold")
    due = await owed(office, 12)
    await told(office, "FIRST00001", due - 100_00, "000000012")
    await told(office, "SECOND0001", 500_00, "000000012")
    first, second = sorted([row.id for row in await office.rows("SELECT id FROM outbox ORDER BY id")])
    repay = MifosClient.repay

    async def second_posts_and_never_hears_of_it() -> None:
        async def lost(client, account_id, write):
            await repay(client, account_id, write)
            return Unknown("the answer was lost")

        with monkeypatch.context() as patched:
            patched.setattr(MifosClient, "repay", lost)
            await work_on(office, second)

    meanwhile(monkeypatch, second_posts_and_never_hears_of_it)
    await work_on(office, first)
    assert await owed(office, 12) == due - 500_00
    for _ in range(2):
        office.runtime.clock.pass_time(minutes=5)
        await office.settle()
    assert await office.posted_to("loans", 12) == [("SECOND0001", 500_00)]
    assert (await office.standing("FIRST00001"), await office.standing("SECOND0001")) == (("suspense", True), ("posted", False))
    await office.books()


async def test_what_was_shared_and_not_called_for_is_shared_by_what_is_owed_when_it_is(office, monkeypatch):
    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    await told(office, "SHARED0001", due + 300_00, "000000041")
    await told(office, "SECOND0001", 500_00, "000000041")
    first, second = sorted([row.id for row in await office.rows("SELECT id FROM outbox ORDER BY id")])
    meanwhile(monkeypatch, lambda: work_on(office, second))
    await work_on(office, first)
    assert (await office.posted_to("loans", 41), await office.posted_to("savings", 42)) == ([("SECOND0001", 500_00)], [])
    office.runtime.clock.pass_time(minutes=1)
    await office.settle()
    assert (await owed(office, 41), await office.posted_to("savings", 42)) == (0, [("SHARED0001", 800_00)])
    assert await office.books() == (ZERO, ZERO, Money(-due), Money(800_00))


async def test_what_was_shared_goes_whole_to_the_loan_once_it_is_owed_again(office, monkeypatch):
    await office.setting(overpayment="to_savings")
    await with_one_savings_account(office)
    due = await owed(office, 41)
    await told(office, "SHARED0001", due, "000000041")
    await told(office, "SECOND0001", 500_00, "000000041")
    await told(office, "THIRD00001", 100_00, "000000041")
    first, second, third = sorted([row.id for row in await office.rows("SELECT id FROM outbox ORDER BY id")])
    for other in (second, third):
        meanwhile(monkeypatch, lambda other=other: work_on(office, other))
        await work_on(office, first)
        office.runtime.clock.pass_time(minutes=1)
    living = "SELECT p.kind, p.amount_cents FROM core_postings p JOIN collections c ON c.id = p.subject_id WHERE c.receipt = 'SHARED0001' AND p.state <> 'refused' ORDER BY p.kind"  # fmt: skip
    assert [tuple(row) for row in await office.rows(living)] == [("deposit", 500_00), ("repayment", due - 500_00)]
    for receipt in ("SECOND0001", "THIRD00001"):
        await office.move(receipt)
    await office.settle("collection.undo")
    await office.settle()
    assert (await office.posted_to("loans", 41), await office.posted_to("savings", 42)) == ([("SHARED0001", due)], [])
    await office.books()


async def work_on(office, call_id) -> None:
    """What one worker does about one call."""
    from vault_core.collections.posting import post_collections
    from vault_core.outbox.calls import claim_calls

    await post_collections(office.runtime, office.connections, await claim_calls(office.runtime, [call_id]))
