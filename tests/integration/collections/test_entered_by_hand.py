"""A payment that somebody entered in Mifos X by hand before it was told here stands there once, and a person hears where."""

import pytest

from tests.integration.collections.feeds import TELL, paid
from tests.integration.collections.test_core_payments import Office as Branch
from tests.integration.collections.test_overpayment import owed, with_one_savings_account
from vault_core.errors import Conflict
from vault_core.money import ZERO, Money

RECEIPT = "HANDFIRST1"


@pytest.fixture
def branch(office) -> Branch:
    return Branch(office)


async def told_later(branch, minutes: int, reference: str = "000000011") -> None:
    """A pull tells it, so many minutes after it happened."""
    office = branch.umoja
    at = office.runtime.clock.now()
    office.runtime.clock.pass_time(minutes=minutes)
    await TELL["pull"](office, paid(RECEIPT, at, reference=reference))
    await office.settle()


async def test_entered_on_its_own_account_it_is_found_there(branch):
    office = branch.umoja
    made = await branch.enter("loan", 11, 500_00, RECEIPT)
    assert await branch.hook("loan", 11, made, receiptNumber=RECEIPT) == "recorded: not ours"
    await told_later(branch, 5)
    assert await office.posted_to("loans", 11) == [(RECEIPT, 500_00)]
    assert await office.standing(RECEIPT) == ("posted", False)
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)


@pytest.mark.parametrize(("minutes", "reference"), [(120, "000000011"), (5, "nobody")])
async def test_entered_on_another_account_it_waits_for_a_person_who_sees_where_it_is(branch, minutes, reference):
    office = branch.umoja
    made = await branch.enter("loan", 12, 500_00, RECEIPT)
    await branch.hook("loan", 12, made, receiptNumber=RECEIPT)
    await told_later(branch, minutes, reference)
    assert await office.posted_to("loans", 11) == []
    assert await office.standing(RECEIPT) == ("suspense", True)
    [case] = await office.cases()
    assert f"by hand on loan 000000012, as transaction {made} of KES 500.00" in case.evidence["reason"]
    assert case.evidence["candidates"][0]["account_no"] == "000000012"

    with pytest.raises(Conflict, match="by hand on loan 000000012"):
        await office.assign(RECEIPT, "loan:000000011")
    await office.assign(RECEIPT, "loan:000000012")
    await office.settle()
    assert (await office.posted_to("loans", 11), await office.posted_to("loans", 12)) == ([], [(RECEIPT, 500_00)])
    assert await office.books() == (ZERO, ZERO, Money(-500_00), ZERO)
    assert await office.cases() == []


async def test_what_was_undone_there_meanwhile_stands_in_nobodys_way_though_no_hook_told_of_it(branch):
    office = branch.umoja
    made = await branch.enter("loan", 12, 500_00, RECEIPT)
    await branch.hook("loan", 12, made, receiptNumber=RECEIPT)
    await branch.undo("loan", 12, made)
    await told_later(branch, 5)
    assert (await office.posted_to("loans", 11), await office.posted_to("loans", 12)) == ([(RECEIPT, 500_00)], [])


async def test_what_stands_there_is_not_given_back_by_mpesa_too(branch):
    office = branch.umoja
    receipt = await office.customer_pays(500_00, "nobody")
    made = await branch.enter("loan", 12, 500_00, receipt)
    await branch.hook("loan", 12, made, receiptNumber=receipt)
    await office.reverse(receipt)
    with pytest.raises(Conflict, match="undo that transaction there first"):
        await office.approve(receipt)
    await branch.undo("loan", 12, made)
    await office.approve(receipt)
    assert await office.standing(receipt) == ("reversing", True)


async def test_a_second_person_does_not_have_posted_what_was_entered_elsewhere_since_the_first_proposed(branch):
    office = branch.umoja
    receipt = await office.customer_pays(60_000_00, "nobody")
    await office.assign(receipt, "loan:000000011")
    made = await branch.enter("loan", 12, 60_000_00, receipt)
    await branch.hook("loan", 12, made, receiptNumber=receipt)
    with pytest.raises(Conflict, match="by hand on loan 000000012"):
        await office.approve(receipt)
    assert await office.decision_state(receipt) == "proposed"
    await branch.undo("loan", 12, made)
    await office.approve(receipt)
    await office.settle()
    assert (await office.posted_to("loans", 11), await office.posted_to("loans", 12)) == ([(receipt, 60_000_00)], [])


@pytest.mark.parametrize(("policy", "minutes"), [("to_savings", 120), ("hold", 5)])
async def test_what_its_own_entry_by_hand_left_owed_does_not_make_it_too_much(branch, policy, minutes):
    office = branch.umoja
    await office.setting(overpayment=policy)
    await with_one_savings_account(office)
    await branch.enter("loan", 41, await owed(office, 41) - 800_00, "CASH-1")
    await branch.enter("loan", 41, 500_00, RECEIPT)
    await told_later(branch, minutes, "000000041")  # 500.00, while 300.00 are owed now
    assert (await office.posted_to("loans", 41))[1:] == [(RECEIPT, 500_00)]
    assert (await office.posted_to("savings", 42), await owed(office, 41)) == ([], 300_00)
    assert await office.standing(RECEIPT) == ("posted", False)
