"""What one person decides alone is bounded in the database, whatever the application writes."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.integration.collections.feeds import TELL, paid, tell_by_statement
from tests.integration.collections.office import ANNE, BEN
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.database import open_owner_engine
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import Money
from vault_core.schema import migrate

DECIDE = """
    INSERT INTO collection_decisions (id, partner_id, collection_id, kind, account_kind, account_id, account_no, amount_cents, reason,
                                      second_person, proposed_by, proposed_at, lapses_at)
    SELECT uuidv7(), partner_id, id, '{kind}', 'savings', 22, '000000022', {amount}, 'because', {second}, 'ops:anne', now(),
           now() + interval '7 days' FROM collections WHERE receipt = '{receipt}'
"""


async def decide(office, receipt, *, kind="assign", amount="amount_cents", second="false"):
    """Writes a decision past all rules, as the application's login."""
    async with office.runtime.engine.begin() as connection:
        await connection.execute(text(DECIDE.format(kind=kind, amount=amount, second=second, receipt=receipt)))


async def test_the_application_cannot_write_one_persons_decision_above_the_limit_nor_understate_it(office):
    large, small = await office.customer_pays(60_000_00, "nobody"), await office.customer_pays(600_00, "nobody")
    for wrong in ({}, {"kind": "move"}):
        with pytest.raises(DBAPIError, match="above the 5000000 that one person decides on alone"):
            await decide(office, large, **wrong)
    for amount in ("100", "amount_cents - 1", "amount_cents + 1"):
        with pytest.raises(DBAPIError, match="is about 6000000 cents"):
            await decide(office, large, amount=amount)
    await decide(office, large, second="true")
    await decide(office, small)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE person_limits SET alone_up_to_cents = 100000000",
        "DELETE FROM person_limits",
        "TRUNCATE person_limits",
        "INSERT INTO person_limits VALUES ('other', 1)",
        "UPDATE collection_decisions SET second_person = false",
        "DROP TRIGGER has_its_people ON collection_decisions",
        "ALTER TABLE collection_decisions DISABLE TRIGGER has_its_people",
        "SET session_replication_role = replica",
    ],
)
async def test_the_application_cannot_move_the_limit_or_its_guard(office, attack):
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        async with office.runtime.engine.begin() as connection:
            await connection.execute(text(attack))


async def test_a_partners_own_limit_counts_where_it_is_lower_and_cannot_be_higher(office, owner_url):
    with pytest.raises(InvalidInput, match=r"above KES 50,000.00, the limit of this installation"):
        await office.setting(assign_alone_up_to=Money.shillings(50_001))
    await office.setting(assign_alone_up_to=Money.shillings(100))
    receipt = await office.customer_pays(101_00, "nobody")
    with pytest.raises(DBAPIError, match="above the 10000 "):
        await decide(office, receipt)
    async with office.runtime.engine.begin() as connection:  # what the application can write does not lift the installation's
        await connection.execute(text("UPDATE collection_settings SET assign_alone_up_to_cents = 100000000"))
    await decide(office, receipt)
    large = await office.customer_pays(60_000_00, "nobody")
    with pytest.raises(DBAPIError, match="above the 5000000 "):
        await decide(office, large)

    owner = open_owner_engine(owner_url)
    migrate(owner, now=datetime.now(UTC), assign_alone_up_to=60_000)
    migrate(owner, now=datetime.now(UTC))
    owner.dispose()
    await decide(office, large)


async def test_one_persons_alias_routes_no_payment_above_the_limit_until_another_person_has_said_the_same(office):
    await refresh_mirrors(office.runtime, office.connections)
    await office.setting(assign_alone_up_to=Money.shillings(100))
    first = await office.customer_pays(20_00, "mama mboga")
    await office.assign(first, "loan:000000012", remember=True)
    await office.settle()
    small, large = await office.customer_pays(100_00, "Mama Mboga"), await office.customer_pays(100_01, "Mama Mboga")
    assert await office.posted_to("loans", 12) == [(first, 20_00), (small, 100_00)]
    [case] = await office.cases()
    assert "by the word of ops:anne alone, and KES 100.01 is above KES 100.00" in case.evidence["reason"]
    best = case.evidence["candidates"][0]
    assert (best["account_no"], best["score"]) == ("000000012", 95)

    await office.assign(large, "loan:000000012", actor=ANNE, remember=True)
    await office.approve(large, actor=BEN)
    await office.settle()
    after = await office.customer_pays(3_000_00, "MAMA MBOGA")
    assert await office.posted_to("loans", 12) == [(first, 20_00), (small, 100_00), (large, 100_01), (after, 3_000_00)]
    [alias] = await office.rows("SELECT added_by, agreed_by FROM account_aliases WHERE removed_at IS NULL")
    assert tuple(alias) == (ANNE, BEN)
    assert await office.cases() == []


async def test_a_number_that_somebody_also_made_an_alias_is_that_number_whatever_the_amount(office):
    await refresh_mirrors(office.runtime, office.connections)
    await office.setting(assign_alone_up_to=Money.shillings(1))
    first = await office.customer_pays(1_00, "0000 12")
    await office.assign(first, "loan:000000012", remember=True)
    await office.settle()
    by_number = await office.customer_pays(500_00, "000000012")
    assert (await office.standing(by_number))[0] == "posted"


async def test_what_was_typed_is_not_remembered_for_another_account_where_it_is_an_open_ones_number(office):
    await refresh_mirrors(office.runtime, office.connections)
    await office.setting(overpayment="hold")
    receipt = await office.customer_pays(60_000_00, "000000011")  # more than is owed there
    with pytest.raises(Conflict, match="is the number of loan 000000011, which is open"):
        await office.assign(receipt, "loan:000000012", remember=True, post_all=True)
    assert await office.rows("SELECT 1 FROM collection_decisions") == []
    await office.assign(receipt, "loan:000000012", post_all=True)


@pytest.mark.parametrize(
    "reference", ["0712000001", "000000021"]
)  # Jane has loans 11 and 21; loan and savings 21 have one number
async def test_one_persons_alias_does_not_choose_among_accounts_of_one_reference_above_the_limit(office, reference):
    await refresh_mirrors(office.runtime, office.connections)
    await office.setting(assign_alone_up_to=Money.shillings(100))
    first = await office.customer_pays(20_00, reference)
    [case] = await office.cases()
    assert "more than one open account" in case.evidence["reason"]
    await office.assign(first, "loan:000000021", remember=True)
    await office.settle()
    small, large = await office.customer_pays(100_00, reference), await office.customer_pays(100_01, reference)
    assert await office.posted_to("loans", 21) == [(first, 20_00), (small, 100_00)]
    assert await office.standing(large) == ("suspense", True)
    [case] = await office.cases()
    assert "by the word of ops:anne alone" in case.evidence["reason"]


async def test_a_statement_which_one_person_brings_names_no_account_above_that_persons_limit(office):
    """Whoever imports a file may have edited it."""
    await office.setting(assign_alone_up_to=Money.shillings(100))
    now = office.runtime.clock.now()
    known, unknown = paid("ABOVE00001", now, 100_01, reference=""), paid("ABOVE00002", now, 200_00, reference="000000012")
    small = paid("BELOW00001", now, 100_00, reference="000000012")
    await TELL["c2b"](office, known)
    report = await tell_by_statement(office, paid(known.receipt, now, known.cents, reference="000000012"), unknown, small)
    assert (report.booked, report.above_limit, report.known) == (2, [unknown.receipt], 1)
    await office.settle()
    assert await office.posted_to("loans", 12) == [(small.receipt, 100_00)]
    assert [await office.standing(one.receipt) for one in (known, unknown)] == [("suspense", True)] * 2

    await TELL["pull"](office, unknown)  # what M-Pesa itself says
    await office.assign(known.receipt, "loan:000000012")
    await office.approve(known.receipt)
    await office.settle()
    posted = await office.posted_to("loans", 12)
    assert sorted(posted) == [(known.receipt, 100_01), (unknown.receipt, 200_00), (small.receipt, 100_00)]
    assert await office.open_case_kinds() == []


async def test_a_large_payments_reference_in_a_statement_that_contradicts_what_was_told_opens_a_case(office):
    now = office.runtime.clock.now()
    await TELL["c2b"](office, paid("ABOVE00003", now, 60_000_00))
    await TELL["statement"](office, paid("ABOVE00003", now, 60_000_00, reference="000000012"))
    assert "receipt_conflict" in await office.open_case_kinds()
