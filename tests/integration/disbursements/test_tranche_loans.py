"""Loans in tranches, paid from the sandbox's Mifos X and M-Pesa: the plan decides when, what stands decides whether."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import loan
from tests.integration.disbursements.test_unposted_loans import command
from vault_core.clients.mifos import ApprovedLoan, CoreWrite, MifosClient
from vault_core.clock import business_day
from vault_core.disbursements.next_tranches import find_next_tranches
from vault_core.errors import NotFound, NotUnderstood
from vault_core.money import Money
from vault_core.outcome import Accepted

PRODUCTS = [{"id": 1, "name": "Shamba Tranche Loan", "short_name": "SHAM", "multi_disburse": True}]


@pytest.fixture
def tranche_day(open_day, clock):
    """A day with one loan of KES 10,000: 6,000 due today and 4,000 in ten days, unless the test says otherwise."""

    def opened(*cents: int, first_in_days: int = 0, **more):
        planned = cents or (600_000, 400_000)
        days = [business_day(clock.now()) + timedelta(days=first_in_days + 10 * place) for place in range(len(planned))]
        tranches = [{"principal_cents": each, "expected_on": day.isoformat()} for each, day in zip(planned, days, strict=True)]
        return open_day([loan(1, 1_000_000, tranches=tranches, **more)], products=[dict(each) for each in PRODUCTS])

    return opened


async def pay_what_is_ready(day) -> None:
    await day.send()
    await day.hear("b2c_result")
    await day.post()


async def look(day) -> int:
    return await find_next_tranches(day.runtime, day.connections)


async def parts(day) -> list[tuple[int, str, str | None, int]]:
    rows = await day.rows("SELECT tranche, state, held_for, payout_cents FROM disbursements ORDER BY tranche")
    return [(row["tranche"], row["state"], row["held_for"], row["payout_cents"]) for row in rows]


async def disbursals(day) -> list[int]:
    found = (await day.truth())["mifos"]["alpha"]["loans"]["1"]["transactions"]
    return [each["amount_cents"] for each in found if each["kind"] == "disbursement" and not each["reversed"]]


async def by_hand(day, shillings: int) -> None:
    client = await day.connections.mifos(day.partner.id)
    write = CoreWrite(
        amount=Money.shillings(shillings), on=business_day(datetime.now(UTC)), payment_type_id=None, receipt="CASH-1",
        account_number=None, external_id=None, idempotency_key=None,
    )  # fmt: skip
    assert isinstance(await client.disburse(1, write), Accepted)


async def test_each_tranche_is_paid_on_its_day_and_posted_once(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        assert await parts(day) == [(1, "disbursed", None, 600_000)]
        assert await look(day) == 1
        assert (await parts(day))[1] == (2, "held", "tranche_not_due", 400_000)
        day.clock.pass_time(days=9)
        assert await day.review() == 0
        day.clock.pass_time(days=1, hours=1)
        assert await day.review() == 1
        await pay_what_is_ready(day)
        assert await parts(day) == [(1, "disbursed", None, 600_000), (2, "disbursed", None, 400_000)]
        assert [payment["amount_cents"] for payment in await day.payments()] == [600_000, 400_000]
        assert await disbursals(day) == [600_000, 400_000]
        assert await look(day) == 0
        assert await day.rows("SELECT 1 FROM disbursements WHERE next_tranche_at IS NOT NULL") == []
        assert await day.cases() == []
        assert day.ledger_findings() == []


async def test_a_first_tranche_that_is_not_due_waits(tranche_day) -> None:
    async with tranche_day(first_in_days=3) as day:
        await day.fund(1000)
        await day.poll()
        assert await parts(day) == [(1, "held", "tranche_not_due", 600_000)]
        assert (await day.send()).accepted == 0


async def test_nothing_follows_before_the_first_tranche_stands_in_mifos(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        day.clock.pass_time(days=30)
        assert await look(day) == 0
        assert await parts(day) == [(1, "paid", None, 600_000)]


@pytest.mark.parametrize("error", [NotUnderstood("loan 1: a field we cannot read", code="shape"), NotFound("loan 1")])
async def test_a_loan_that_cannot_be_read_holds_up_the_next_tranche_of_no_other_and_is_looked_at_again(
    open_day, monkeypatch, error
) -> None:
    tranches = [{"principal_cents": 600_000}, {"principal_cents": 400_000}]
    both = [loan(number, 1_000_000, tranches=tranches) for number in (1, 2)]
    async with open_day(both, products=[dict(each) for each in PRODUCTS]) as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        real = MifosClient.loan

        async def unreadable(client: MifosClient, loan_id: int) -> ApprovedLoan:
            if loan_id == 1:
                raise error
            return await real(client, loan_id)

        with monkeypatch.context() as patched:
            patched.setattr(MifosClient, "loan", unreadable)
            assert await look(day) == 1
        day.clock.pass_time(hours=2)
        assert await look(day) == 1
        rows = await day.rows("SELECT loan_id FROM disbursements WHERE tranche = 2 ORDER BY detected_at")
        assert [row["loan_id"] for row in rows] == [2, 1]


async def test_two_workers_that_look_at_once_take_a_tranche_in_once(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        assert sum(await asyncio.gather(look(day), look(day))) == 1
        assert len(await parts(day)) == 2


async def test_a_tranche_that_somebody_disbursed_by_hand_is_not_paid_again(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await look(day)
        await by_hand(day, 4_000)
        day.clock.pass_time(days=11)
        await day.review()
        assert (await parts(day))[1][1:3] == ("held", "not_approved")
        assert (await day.send()).accepted == 0
        assert len(await day.payments()) == 1


async def test_a_tranche_disbursed_by_hand_after_its_payment_goes_to_a_person_and_is_not_posted_twice(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await look(day)
        day.clock.pass_time(days=11)
        await day.review()
        await day.send()
        await day.hear("b2c_result")
        await by_hand(day, 4_000)
        await day.post()
        assert (await parts(day))[1][1] == "needs_review"
        assert await day.cases() == ["disbursement_unposted"]
        assert await disbursals(day) == [600_000, 400_000]


async def test_a_tranche_that_is_put_off_while_it_waits_to_be_sent_is_not_paid_early(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        day.clock.pass_time(days=-1)  # as if the plan had been moved by a day since it was examined
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE disbursements SET due_at = :now"), {"now": day.clock.now()})
        assert (await day.send()).accepted == 0
        await day.review()
        assert (await parts(day))[0][1:3] == ("held", "tranche_not_due")
        assert await day.payments() == []


@pytest.mark.parametrize("planned", [(), (600_000, 500_000)])
async def test_a_plan_that_does_not_add_up_is_left_to_a_person(open_day, planned) -> None:
    tranches = [{"principal_cents": each} for each in planned]
    async with open_day([loan(1, 1_000_000, tranches=tranches)], products=[dict(each) for each in PRODUCTS]) as day:
        await day.fund(1000)
        await day.poll()
        assert (await parts(day))[0][1:3] == ("held", "tranche_loan")
        assert (await day.send()).accepted == 0


async def test_a_tranche_disbursed_by_hand_before_it_was_taken_in_is_shown_to_a_person(tranche_day) -> None:
    async with tranche_day(500_000, 300_000, 200_000) as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await by_hand(day, 3_000)
        assert await look(day) == 1
        (row,) = await day.rows("SELECT held_for, reason FROM disbursements WHERE tranche = 2")
        assert row["held_for"] == "not_approved"
        assert "2 tranches are disbursed in Mifos X where 1 were expected" in row["reason"]
        assert (await day.send()).accepted == 0


async def test_charges_kept_back_from_a_tranche_nobody_names_are_left_to_a_person(tranche_day) -> None:
    async with tranche_day(fee_cents=30_000) as day:
        await day.fund(1000)
        await day.poll()
        (row,) = await day.rows("SELECT held_for, reason FROM disbursements")
        assert row["held_for"] == "tranche_loan"
        assert "KES 300" in row["reason"]


async def test_a_tranche_undone_in_mifos_after_our_posting_is_a_case_and_neither_it_nor_the_next_is_paid(tranche_day) -> None:
    async with tranche_day(400_000, 300_000, 300_000) as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        assert await look(day) == 1
        day.clock.pass_time(days=11)
        await day.review()
        await pay_what_is_ready(day)
        assert [state for _, state, _, _ in await parts(day)] == ["disbursed", "disbursed"]
        await command(day, "undolastdisbursal")
        for _ in range(3):
            assert await look(day) == 0
            await day.poll()
            await day.review()
            await day.send()
            day.clock.pass_time(days=10)
        assert await day.cases() == ["disbursal_undone"]
        assert len(await parts(day)) == 2
        assert len(await day.payments()) == 2


async def test_the_last_tranche_undone_before_it_was_looked_at_is_not_paid_again(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await look(day)
        day.clock.pass_time(days=11)
        await day.review()
        await pay_what_is_ready(day)
        await command(day, "undolastdisbursal")
        await look(day)
        await day.poll()
        await day.send()
        assert len(await day.payments()) == 2
        assert await day.cases() == ["disbursal_undone"]


async def test_all_tranches_undone_after_our_posting_are_a_case_and_not_paid_again(tranche_day) -> None:
    async with tranche_day() as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await command(day, "undodisbursal")
        day.clock.pass_time(seconds=1)
        for _ in range(2):
            await day.poll()
            await look(day)
            await day.review()
            await day.send()
            day.clock.pass_time(days=11)
        assert await day.cases() == ["disbursal_undone"]
        assert len(await day.payments()) == 1
