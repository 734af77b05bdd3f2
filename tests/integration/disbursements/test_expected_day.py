"""Products that take a disbursal under the loan's expected day only (syncExpectedWithDisbursementDate)."""

from datetime import timedelta

from tests.integration.disbursements.conftest import loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from vault_core.clients.mifos import LoanProduct, MifosClient
from vault_core.clock import business_day

SYNCED = [{"id": 1, "name": "Biashara Loan", "short_name": "BIAS", "sync_expected": True}]


async def test_a_loan_paid_after_its_expected_day_is_posted_under_that_day(open_day, clock) -> None:
    expected = business_day(clock.now()) - timedelta(days=2)
    earlier = loan(1, approved_on=expected.isoformat(), expected_on=expected.isoformat())
    async with open_day([earlier], products=[dict(each) for each in SYNCED]) as day:
        await paid(day)
        await day.post()
        assert "does.not.match.with.expected" in (await day.rows("SELECT last_answer FROM core_postings"))[0]["last_answer"]
        day.clock.pass_time(minutes=1)
        await day.post()
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        (posting,) = await day.rows("SELECT transaction_date, tries FROM core_postings")
        assert (posting["transaction_date"], posting["tries"]) == (expected, 2)
        assert len(await disbursals(day)) == 1
        assert await day.cases() == []


async def test_a_loan_is_not_paid_before_the_one_day_that_its_product_takes_and_goes_then(open_day, clock) -> None:
    expected = business_day(clock.now()) + timedelta(days=2)
    async with open_day([loan(1, expected_on=expected.isoformat())], products=[dict(each) for each in SYNCED]) as day:
        await day.fund(1000)
        await day.poll()
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", "not_due")
        assert f"{expected}: it goes then" in row["reason"]
        day.clock.pass_time(days=1)
        assert await day.review() == 0
        day.clock.pass_time(days=1, minutes=30)
        assert await day.review() == 1
        assert (await day.send()).accepted == 1


async def test_a_loan_paid_before_its_expected_day_is_posted_when_the_day_has_come(open_day, clock, monkeypatch) -> None:
    async def told_by_none(_self: MifosClient) -> list[LoanProduct]:  # a server whose list of products does not tell the rule
        return [LoanProduct(1, "Biashara Loan", "BIAS", "KES", active=True)]

    monkeypatch.setattr(MifosClient, "loan_products", told_by_none)
    expected = business_day(clock.now()) + timedelta(days=2)
    async with open_day([loan(1, expected_on=expected.isoformat())], products=[dict(each) for each in SYNCED]) as day:
        await paid(day)
        for after in range(3):
            assert await disbursals(day) == []
            of_tenant = (expected - timedelta(days=2 - after)).isoformat()
            await day.control("setup", {"mifos": {"alpha": {"business_date": of_tenant}}})
            for _ in range(3):
                await day.post()
                day.clock.pass_time(minutes=5)
            day.clock.pass_time(days=1)
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        (posting,) = await day.rows("SELECT transaction_date FROM core_postings")
        assert posting["transaction_date"] == expected
        assert await day.cases() == []
