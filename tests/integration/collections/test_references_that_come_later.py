"""A payment whose reference comes after its first telling: its account is found then, and its case closes by itself."""

from tests.integration.collections.feeds import TELL, paid
from tests.integration.collections.office import BEN
from vault_core.collections.account_lookup import look_up
from vault_core.collections.posting import post_collections
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls


async def told_without_reference(office, receipt):
    """A pulled payment whose row names no account: it is in suspense."""
    one = paid(receipt, office.runtime.clock.now(), reference="")
    await TELL["pull"](office, one)
    await office.settle()
    assert await office.standing(receipt) == ("suspense", True)
    office.runtime.clock.pass_time(minutes=5)
    return one


async def test_the_reference_brings_it_to_its_account_and_closes_its_case(office):
    one = await told_without_reference(office, "LATER00001")
    await TELL["c2b"](office, paid(one.receipt, one.at))
    assert await office.standing(one.receipt) == ("matching", True)
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)  # until Mifos X has it
    assert await office.open_case_kinds() == ["unmatched_payment"]
    for _ in range(2):
        await TELL["c2b"](office, paid(one.receipt, one.at))
        await office.settle()

    assert await office.standing(one.receipt) == ("posted", False)
    assert await office.posted_to("loans", 11) == [(one.receipt, 500_00)]
    assert (await office.books(), await office.open_case_kinds()) == ((ZERO, ZERO, Money(-500_00), ZERO), [])


async def test_a_reference_that_names_no_account_leaves_it_in_suspense_with_a_case_that_says_so(office):
    one = await told_without_reference(office, "LATER00002")
    [before] = await office.cases()
    await TELL["c2b"](office, paid(one.receipt, one.at, reference="000000099"))
    await office.settle()

    [after] = await office.cases()
    assert await office.standing(one.receipt) == ("suspense", True)
    assert (after.id, after.opened_at) == (before.id, before.opened_at)
    assert "no loan or savings account has this number" in after.evidence["reason"] != before.evidence["reason"]
    assert (await office.collection(one.receipt)).reason == after.evidence["reason"]
    assert await office.books() == (Money(500_00), ZERO, ZERO, ZERO)
    await office.assign(one.receipt, "loan:000000012")
    await office.settle()
    assert await office.posted_to("loans", 12) == [(one.receipt, 500_00)]


async def test_what_people_decided_or_propose_stands_against_a_reference_that_comes_later(office):
    await office.setting(assign_alone_up_to=Money(10_00))
    one = await told_without_reference(office, "LATER00003")
    await office.assign(one.receipt, "loan:000000012")
    await TELL["c2b"](office, paid(one.receipt, one.at))
    await office.settle()
    assert (await office.standing(one.receipt), await office.decision_state(one.receipt)) == (("suspense", True), "proposed")
    await office.approve(one.receipt, actor=BEN)
    await office.settle()
    assert await office.posted_to("loans", 12) == [(one.receipt, 500_00)]


async def test_a_rejected_proposal_is_no_decision_about_its_account(office):
    await office.setting(assign_alone_up_to=Money(10_00))
    one = await told_without_reference(office, "LATER00004")
    await office.assign(one.receipt, "loan:000000012")
    await office.reject(one.receipt)
    await TELL["c2b"](office, paid(one.receipt, one.at))
    await office.settle()
    assert await office.posted_to("loans", 11) == [(one.receipt, 500_00)]


async def test_a_worker_that_looked_before_the_reference_came_does_not_put_it_in_suspense(office, monkeypatch):
    one = paid("LATER00005", office.runtime.clock.now(), reference="")
    await TELL["pull"](office, one)

    async def looks_long(runtime, connections, payments):
        found = await look_up(runtime, connections, payments)
        await TELL["c2b"](office, paid(one.receipt, one.at))
        return found

    monkeypatch.setattr("vault_core.collections.posting.look_up", looks_long)
    [row] = await office.rows("SELECT id FROM outbox WHERE kind = 'collection.post'")
    await post_collections(office.runtime, office.connections, await claim_calls(office.runtime, [row.id]))
    monkeypatch.undo()
    assert await office.standing(one.receipt) == ("matching", False)
    await office.settle()
    assert await office.posted_to("loans", 11) == [(one.receipt, 500_00)]
    assert (await office.books(), await office.open_case_kinds()) == ((ZERO, ZERO, Money(-500_00), ZERO), [])
