"""A lender's holidays and rest days: what Mifos X would refuse to have posted is not paid before people or the calendar allow it."""

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals
from tests.integration.disbursements.test_unposted_loans import command
from vault_core.clock import NAIROBI, business_day
from vault_core.disbursements.resuming import resume_postings
from vault_core.runtime import Runtime

OLDER = "1.10.1"  # looks at the day that is posted under
DOCUMENTED = [  # without those that show closed days
    "READ_LOAN", "READ_CLIENT", "READ_LOANPRODUCT", "READ_PAYMENTTYPE", "READ_BUSINESS_DATE", "READ_SAVINGSACCOUNT",
    "DISBURSE_LOAN", "REPAYMENT_LOAN", "DEPOSIT_SAVINGSACCOUNT", "CREATE_PAYMENTTYPE",
]  # fmt: skip


@pytest.fixture(autouse=True)
async def morning(runtime: Runtime, sandbox: str, clock: Any) -> None:
    """Nine o'clock in Nairobi, for all: an hour more is the same day."""
    nine = clock.now().astimezone(NAIROBI).replace(hour=9, minute=0)
    clock.pass_time(seconds=((nine - clock.now()) % timedelta(days=1)).total_seconds())
    answer = await runtime.http.post(f"{sandbox}/control/settings", json={"now": clock.now().isoformat()})
    assert answer.status_code == 200


def closed(clock: Any, *ahead: int, kind: str = "holiday") -> dict[str, str]:
    return {(business_day(clock.now()) + timedelta(days=days)).isoformat(): kind for days in ahead}


async def pass_time(day: Day, **amount: float) -> None:
    day.clock.pass_time(**amount)
    await day.control("settings", {"now": day.clock.now().isoformat()})


async def found(day: Day) -> dict[str, Any]:
    await day.fund(1000)
    await day.poll()
    await day.send()
    return await day.loan_row(1)


async def looked_at_again(day: Day) -> None:
    await day.review()
    await day.send()
    await day.hear("b2c_result")
    await day.post()


async def reads(day: Day) -> tuple[int, int, int]:
    calls = (await day.truth())["calls"]
    return tuple(calls.get(f"mifos {name}", 0) for name in ("configurations", "working days", "holidays"))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["holiday", "non.working.day"])
async def test_a_loan_found_on_a_closed_day_of_an_older_server_goes_on_the_first_open_one(open_day, clock, kind: str) -> None:
    async with open_day([loan(1)], version=OLDER, closed_days=closed(clock, 0, 1, kind=kind)) as day:
        row = await found(day)
        assert (row["state"], row["held_for"]) == ("held", "not_due")
        assert f"it goes on {business_day(clock.now()) + timedelta(days=2)}" in row["reason"]
        await pass_time(day, days=1)
        await looked_at_again(day)
        assert (await day.states(), await day.payments()) == ({1: "held"}, [])
        await pass_time(day, days=1)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        assert len(await day.payments()) == 1


async def test_a_loan_expected_on_a_closed_day_of_a_newer_server_waits_for_another_expected_day(open_day, clock) -> None:
    async with open_day([loan(1)], closed_days=closed(clock, 0)) as day:
        row = await found(day)
        assert (row["state"], row["held_for"]) == ("held", "not_postable")
        assert "approve it with an open day" in row["reason"]
        await pass_time(day, days=1)
        await looked_at_again(day)  # an open day by itself is of no use there
        assert (await day.states(), await day.payments()) == ({1: "held"}, [])
        await command(day, "undoapproval")
        today = business_day(day.clock.now()).isoformat()
        await command(day, "approve", approvedOnDate=today, expectedDisbursementDate=today)
        await pass_time(day, minutes=6)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]


async def test_a_newer_server_takes_a_loan_on_a_closed_day_that_was_not_its_expected_one(open_day, clock) -> None:
    yesterday = (business_day(clock.now()) - timedelta(days=1)).isoformat()
    async with open_day([loan(1, expected_on=yesterday, approved_on=yesterday)], closed_days=closed(clock, 0)) as day:
        await found(day)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]


async def test_closed_days_that_the_lender_allows_hold_nothing_and_are_seen_to_be_allowed_within_minutes(open_day, clock) -> None:
    async with open_day([loan(1)], version=OLDER, closed_days=closed(clock, 0)) as day:
        assert (await found(day))["held_for"] == "not_due"
        await day.control("setup", {"mifos": {"alpha": {"allows_closed_days": True}}})
        await pass_time(day, hours=1)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]


async def test_what_our_user_may_not_see_holds_nothing_and_is_posted_on_the_first_day_that_will_do(open_day, clock) -> None:
    user = {"username": "mifos", "password": "password", "permissions": DOCUMENTED}
    async with open_day([loan(1)], version=OLDER, closed_days=closed(clock, 0), users=[user]) as day:
        await found(day)
        await looked_at_again(day)
        assert await day.states() == {1: "posting"}
        (kept,) = await day.rows("SELECT problem FROM mifos_calendars")
        assert "READ configuration" in kept["problem"]
        await pass_time(day, days=1)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1


async def test_a_loan_that_was_ready_before_the_closed_day_is_not_sent_on_it(open_day, clock) -> None:
    async with open_day([loan(1)], version=OLDER, closed_days=closed(clock, 1)) as day:
        await day.poll()
        await day.send()
        assert (await day.loan_row(1))["held_for"] == "wallet_short"
        await day.fund(1000)
        await pass_time(day, days=1)
        await day.review()
        assert (await day.send()).accepted == 0
        row = await day.loan_row(1)
        assert (row["held_for"], await day.payments()) == ("not_due", [])
        assert [attempt["sends"] for attempt in await day.attempts(1)] == [0]
        await pass_time(day, hours=1)
        assert (await day.review(), await day.states()) == (0, {1: "held"})
        await pass_time(day, days=1)
        await looked_at_again(day)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        assert len(await day.attempts(1)) == 1


async def test_closed_days_are_read_once_a_day_for_an_office(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        before = await reads(day)
        await day.fund(1000)
        await day.poll()
        assert (await day.send()).accepted == 2
        await day.control("setup", {"mifos": {"alpha": {"clients": [], "loans": [{**loan(3), "client": 1}]}}})
        await day.poll()
        assert [after - was for after, was in zip(await reads(day), before, strict=True)] == [1, 1, 1]
        await pass_time(day, days=1)
        await day.control("setup", {"mifos": {"alpha": {"loans": [{**loan(4), "client": 2}]}}})
        await day.poll()
        assert [after - was for after, was in zip(await reads(day), before, strict=True)] == [2, 2, 2]


async def test_a_holiday_declared_after_the_payment_on_the_expected_day_comes_to_a_person_at_once(open_day, clock) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        await day.control("setup", {"mifos": {"alpha": {"closed_days": closed(clock, 0)}}})
        await day.post()
        assert (await day.states(), await day.cases()) == ({1: "needs_review"}, ["disbursement_unposted"])
        assert "allow transactions on such days" in (await day.loan_row(1))["reason"]
        await day.control("setup", {"mifos": {"alpha": {"allows_closed_days": True}}})
        await resume_postings(day.runtime, "alpha", actor="ops:test", reason="allowed for it")
        await day.post()
        assert (await day.states(), await day.cases()) == ({1: "disbursed"}, [])
