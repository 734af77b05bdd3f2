"""A payment in suspense is assigned by people, posted once, and its case closes by itself."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.integration.collections.office import ANNE, BEN
from vault_core.collections.assigning import lapse_decisions
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.collections.posting import post_collections
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls


async def test_an_assigned_payment_is_posted_once_under_a_new_name_and_its_case_closes_by_itself(office):
    receipt = await office.customer_pays(750_00, "nobody")
    assert await office.books() == (Money(750_00), ZERO, ZERO, ZERO)
    decision = await office.assign(receipt, "loan:000000012")
    assert (decision.state, decision.second_person) == ("approved", False)
    assert await office.standing(receipt) == ("posting", True)
    assert await office.books() == (Money(750_00), ZERO, ZERO, ZERO)  # until Mifos X has it
    assert await office.open_case_kinds() == ["unmatched_payment"]

    await office.settle()
    await office.settle()
    await office.settle("message.send")
    assert await office.standing(receipt) == ("posted", False)
    assert await office.posted_to("loans", 12) == [(receipt, 750_00)]
    assert await office.books() == (ZERO, ZERO, Money(-750_00), ZERO)
    assert (await office.open_case_kinds(), await office.decision_state(receipt)) == ([], "done")
    [(phone, said)] = await office.texts()
    assert phone == "254712000002"
    assert said.startswith(f"Received KES 750.00 for loan 000000012. Receipt {receipt}.") or "KES 750 for loan" in said


async def test_what_mifos_x_refuses_is_in_suspense_again_with_the_same_case_and_can_be_assigned_anew(office):
    receipt = await office.customer_pays(100_00, "nobody")
    await office.assign(receipt, "loan:000000012")
    await office.control(
        "setup",
        {"mifos": {"alpha": {"loans": [{"id": 12, "client": 2, "product": 1, "principal_cents": 5_000_00, "status": 200}]}}},
    )
    await office.settle()
    assert await office.standing(receipt) == ("suspense", True)
    assert (await office.open_case_kinds(), await office.decision_state(receipt)) == (["unmatched_payment"], "failed")
    assert await office.books() == (Money(100_00), ZERO, ZERO, ZERO)

    await office.assign(receipt, "savings:000000022")
    await office.settle()
    assert await office.posted_to("savings", 22) == [(receipt, 100_00)]
    names = [row.external_id for row in await office.rows("SELECT external_id FROM core_postings ORDER BY length(external_id)")]
    assert names == [f"pv-c2b-600100-{receipt}", f"pv-c2b-600100-{receipt}-2"]
    assert await office.books() == (ZERO, ZERO, ZERO, Money(100_00))


async def test_above_the_limit_another_person_must_agree_and_the_table_itself_refuses_the_first(office):
    receipt = await office.customer_pays(60_000_00, "nobody")
    proposed = await office.assign(receipt, "savings:000000022")
    assert (proposed.state, proposed.second_person) == ("proposed", True)
    await office.settle()
    assert await office.standing(receipt) == ("suspense", True)
    with pytest.raises(Conflict, match="another login"):
        await office.approve(receipt, actor=ANNE)
    approved = text("UPDATE collection_decisions SET state = 'approved', decided_by = proposed_by, decided_at = lapses_at")
    async with office.runtime.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="second_person"):
            await connection.execute(approved)
    with pytest.raises(Conflict, match="waits for a second person"):
        await office.assign(receipt, "loan:000000011", actor=BEN)

    assert (await office.approve(receipt)).decided_by == BEN
    await office.settle()
    assert await office.posted_to("savings", 22) == [(receipt, 60_000_00)]
    assert await office.books() == (ZERO, ZERO, ZERO, Money(60_000_00))
    acts = [row.act for row in await office.rows("SELECT act FROM audit_log WHERE act LIKE 'collection.%' ORDER BY at, id")]
    assert acts == ["collection.assign_proposed", "collection.assign_approved"]


async def test_a_second_person_whose_clock_is_behind_agrees_all_the_same(office):
    receipt = await office.customer_pays(60_000_00, "nobody")
    await office.assign(receipt, "savings:000000022")
    office.runtime.clock.pass_time(seconds=-5)
    assert (await office.approve(receipt)).state == "approved"


async def test_a_proposal_is_rejected_or_lapses_and_can_be_made_anew(office):
    await office.setting(assign_alone_up_to=Money(10_00))
    receipt = await office.customer_pays(20_00, "nobody")
    await office.assign(receipt, "loan:000000011")
    assert (await office.reject(receipt, actor=ANNE)).state == "rejected"
    await office.assign(receipt, "loan:000000011")
    office.runtime.clock.pass_time(days=7)
    with pytest.raises(Conflict, match="lapsed"):
        await office.approve(receipt)
    assert (await lapse_decisions(office.runtime), await lapse_decisions(office.runtime)) == (1, 0)
    assert (await office.assign(receipt, "loan:000000012")).state == "proposed"
    assert await office.books() == (Money(20_00), ZERO, ZERO, ZERO)


@pytest.mark.parametrize(
    ("account", "error", "what"),
    [
        ("loan:000000099", NotFound, "no loan account 000000099"),
        ("loan:000000013", Conflict, "takes no repayment"),
        ("savings:000000011", NotFound, "no savings account"),
        ("000000011", InvalidInput, "loan:NUMBER"),
        ("loan:%", InvalidInput, "loan:NUMBER"),
    ],
)
async def test_an_account_that_cannot_take_it_is_refused_with_what_to_do_and_nothing_is_written(office, account, error, what):
    receipt = await office.customer_pays(20_00, "nobody")
    with pytest.raises(error, match=what):
        await office.assign(receipt, account)
    assert await office.rows("SELECT id FROM collection_decisions") == []
    assert await office.standing(receipt) == ("suspense", True)


async def test_an_account_can_be_named_by_its_id_but_not_where_that_is_another_ones_number(office):
    receipt = await office.customer_pays(20_00, "nobody")
    assert str((await office.assign(receipt, "loan:12")).target) == "loan 000000012"
    other = await office.customer_pays(30_00, "nobody either")
    loan = {"id": 31, "client": 1, "product": 1, "principal_cents": 5_000_00, "status": 300, "external_id": "14"}
    await office.control("setup", {"mifos": {"alpha": {"loans": [loan]}}})
    with pytest.raises(Conflict, match="could be either"):
        await office.assign(other, "loan:14")
    assert str((await office.assign(other, "loan:id:14")).target) == "loan 000000014"


async def test_what_the_payer_typed_is_remembered_only_when_asked(office):
    await refresh_mirrors(office.runtime, office.connections)
    receipt = await office.customer_pays(20_00, "mama mboga")
    await office.assign(receipt, "loan:000000012", remember=True)
    await office.settle()
    again = await office.customer_pays(30_00, "Mama Mboga")
    assert await office.posted_to("loans", 12) == [(receipt, 20_00), (again, 30_00)]


async def test_what_has_no_reference_cannot_be_remembered_and_that_is_said_before_anything_is_proposed(office):
    receipt = await office.customer_pays(60_000_00, " ")
    with pytest.raises(InvalidInput, match="without a reference, so there is none to remember"):
        await office.assign(receipt, "savings:000000022", remember=True)
    assert await office.rows("SELECT id FROM collection_decisions") == []
    assert (await office.assign(receipt, "savings:000000022")).state == "proposed"


async def test_a_worker_that_comes_late_with_the_old_refusal_does_not_disturb_the_new_posting(office):
    receipt = await office.customer_pays(20_00, "nobody")
    await office.assign(receipt, "loan:000000012")
    [row] = await office.rows("SELECT id FROM outbox WHERE kind = 'collection.post'")
    old = await claim_calls(office.runtime, [row.id])
    office.runtime.clock.pass_time(minutes=10)
    await asyncio.gather(post_collections(office.runtime, office.connections, old), office.settle())
    office.runtime.clock.pass_time(minutes=10)
    await office.settle()
    assert await office.posted_to("loans", 12) == [(receipt, 20_00)]
    assert await office.books() == (ZERO, ZERO, Money(-20_00), ZERO)


async def test_the_database_refuses_postings_that_would_live_for_more_than_the_payment(office):
    await office.customer_pays(20_00, "000000012")
    with pytest.raises(DBAPIError, match="would live"):
        async with office.runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt,"
                    " amount_cents, transaction_date, created_at) SELECT uuidv7(), partner_id, 'deposit', subject_id, 22, 'x', 'x',"
                    " receipt, 1, transaction_date, created_at FROM core_postings"
                )
            )


async def test_a_payment_that_is_on_its_way_or_posted_is_not_assigned(office):
    receipt = await office.customer_pays(20_00, "000000012")
    with pytest.raises(Conflict, match="vault collections move"):
        await office.assign(receipt, "loan:000000011")
    with pytest.raises(NotFound, match="no payment with receipt"):
        await office.assign("NOSUCH", "loan:000000011")
