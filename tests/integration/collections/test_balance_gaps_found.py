"""The balance in each confirmation is held against the others': money nobody told of is pulled for at once."""

from datetime import timedelta

import pytest

from tests.integration.collections.feeds import paid, tell_by_confirmation, tell_by_pull, tell_by_push, tell_by_statement
from vault_core.cases.case_book import close_case
from vault_core.collections import balance_gaps
from vault_core.collections.balance_gaps import check_balances
from vault_core.collections.pull_registration import register_pull
from vault_core.money import Money


@pytest.fixture
def day(umoja):
    """Payments of KES 100 to 500, a minute apart, in the order M-Pesa did them, with the balances they left."""
    now = umoja.runtime.clock.now()
    amounts = [100_00, 200_00, 300_00, 400_00, 500_00]
    made, balance = [], 10_000_00
    for number, cents in enumerate(amounts):
        balance += cents
        made.append(paid(f"DAY000000{number}", now + timedelta(minutes=number), cents, balance=balance))
    umoja.runtime.clock.pass_time(minutes=10)
    return made


async def gaps(umoja):
    return await umoja.rows("SELECT * FROM org_balance_gaps ORDER BY from_at")


async def test_balances_that_follow_leave_nothing_however_they_arrive(umoja, day):
    await tell_by_confirmation(umoja, *reversed(day))
    assert await check_balances(umoja.runtime) == 0
    assert await gaps(umoja) == []
    [check] = await umoja.rows("SELECT * FROM org_balance_checks")
    assert (check.settled_receipt, check.settled_cents) == (day[-1].receipt, day[-1].balance)


@pytest.mark.parametrize("explain", [tell_by_pull, tell_by_statement, tell_by_confirmation])
async def test_a_gap_is_a_case_that_closes_by_itself_when_the_payment_is_found(umoja, day, explain):
    await register_pull(umoja.runtime, umoja.connections, umoja.partner, "0722000000", actor="ops:test")
    await tell_by_confirmation(umoja, day[0], day[1], day[3], day[4])
    assert await check_balances(umoja.runtime) == 1
    [case] = await umoja.cases()
    assert (case.kind, case.amount) == ("balance_gap", Money(300_00))
    assert "is being pulled" in case.evidence["do"]
    [feed] = await umoja.rows("SELECT * FROM pull_feeds")
    assert feed.again_from <= day[1].at
    assert feed.next_sweep_at <= umoja.runtime.clock.now()

    await explain(umoja, day[2])
    assert await check_balances(umoja.runtime) == 0
    assert await umoja.cases() == []
    assert (await gaps(umoja))[0].explained_at is not None
    assert await check_balances(umoja.runtime) == 0


async def test_a_payment_told_without_a_balance_is_no_gap(umoja, day):
    await tell_by_push(umoja, day[2])
    await tell_by_confirmation(umoja, *day[:2], *day[3:])
    assert await check_balances(umoja.runtime) == 0
    assert await umoja.cases() == []


async def test_money_that_left_the_account_is_noted_and_is_no_case(umoja, day):
    left = [
        paid(one.receipt, one.at, one.cents, balance=one.balance - (5_000_00 if number > 1 else 0))
        for number, one in enumerate(day)
    ]
    await tell_by_confirmation(umoja, *left)
    assert await check_balances(umoja.runtime) == 0
    assert [gap.amount_cents for gap in await gaps(umoja)] == [-5_000_00]
    assert await umoja.cases() == []


async def test_a_backlog_is_worked_off_in_parts_with_the_same_end(umoja, day, monkeypatch):
    monkeypatch.setattr(balance_gaps, "_MOST_AT_ONCE", 2)
    await tell_by_confirmation(umoja, *day[:3], day[4])
    for _ in range(len(day)):
        await check_balances(umoja.runtime)
    assert [gap.amount_cents for gap in await gaps(umoja)] == [400_00]
    [check] = await umoja.rows("SELECT settled_receipt FROM org_balance_checks")
    assert check.settled_receipt == day[4].receipt


async def test_confirmations_that_may_still_come_are_waited_for(umoja, day):
    await tell_by_confirmation(umoja, day[0], day[2])
    umoja.runtime.clock.moment = day[2].at + timedelta(seconds=60)
    assert await check_balances(umoja.runtime) == 0
    umoja.runtime.clock.pass_time(minutes=2)
    assert await check_balances(umoja.runtime) == 1


async def test_a_case_grows_with_the_next_gap_and_is_not_opened_anew_for_what_a_person_closed(umoja, day):
    await tell_by_confirmation(umoja, day[0], day[2])
    assert await check_balances(umoja.runtime) == 1
    await tell_by_confirmation(umoja, day[4])
    assert await check_balances(umoja.runtime) == 2
    [case] = await umoja.cases()
    assert (case.amount, len(case.evidence["gaps"])) == (Money(600_00), 2)

    async with umoja.runtime.engine.begin() as connection:
        await close_case(connection, umoja.runtime.clock, kind=case.kind, subject=case.subject, resolution="a deposit of our own")
    umoja.runtime.clock.pass_time(seconds=1)
    assert await check_balances(umoja.runtime) == 0
    assert await umoja.cases() == []
