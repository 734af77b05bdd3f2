"""An unresolved payout of any age blocks the next one to the same person, and the block is seen and can be resolved."""

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_resolving import resolve
from tests.integration.disbursements.test_results_and_answers import sent
from vault_core.clock import business_day
from vault_core.disbursements.payout_list import list_payouts
from vault_core.disbursements.resolution_rules import SeenUnpaid


async def approved_later(day: Day, number: int) -> None:
    """Another loan of client 1, approved while the first one's payout is open."""
    another = loan(number, client=1, approved_on=business_day(day.clock.now()).isoformat())
    await day.control("setup", {"mifos": {"alpha": {"loans": [another]}}})
    await day.poll()
    await day.send()


async def test_while_one_payout_is_open_no_other_goes_to_the_same_person_however_old_it_is(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        await day.faults(result_lost={"rate": 1.0, "per_unit": 100}, status_result_lost={"rate": 1.0, "per_unit": 100})
        for number, state in ((2, "accepted"), (3, "needs_review")):
            assert (await day.states())[1] == state
            await approved_later(day, number)
            held = await day.loan_row(number)
            assert (held["state"], held["held_for"]) == ("held", "unresolved_payout")
            for _ in range(day.runtime.pace.status_query_tries + 1):
                day.clock.pass_time(minutes=11)
                await day.ask()
        day.clock.pass_time(days=100)
        await day.review()
        await day.send()
        assert [payment["phone"] for payment in await day.payments()] == ["254700000001"]
        async with day.runtime.engine.connect() as connection:
            waiting = {one.loan_id: one for one in await list_payouts(connection, day.runtime, stuck=True)}
        assert "loan 000000001" in (waiting[2].reason or "")
        assert "`resolve` that one" in waiting[2].next.words
        await resolve(day, SeenUnpaid())
        await day.review()
        assert (await day.send()).accepted == 1, "one of the two, and the other after it"
