"""What a person holds stays held, whatever M-Pesa still says of its instruction, until a person lets it go."""

from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_lost_and_found import pass_and_ask
from tests.integration.disbursements.test_person_acts import do, standing
from tests.integration.disbursements.test_results_and_answers import result, tell
from vault_core.disbursements.resolution_rules import SeenUnpaid
from vault_core.disbursements.resolving import resolve_payout
from vault_core.errors import Conflict

BY_PERSON = ("held", "by_person")


async def never_arrived_and_held(day: Day) -> dict[str, Any]:
    await day.fund(1000)
    await day.faults(html_answer={"units": ["254700000001"], "scope": ["600100"]})
    await day.poll()
    assert (await day.send()).unknown == 1
    await pass_and_ask(day)
    await do(day, "hold")
    assert await standing(day) == BY_PERSON
    (attempt,) = await day.attempts(1)
    return attempt


async def stays_unsent(day: Day) -> bool:
    day.clock.pass_time(hours=3)
    await day.review()
    return (await day.send()).accepted == 0 and await standing(day) == BY_PERSON


async def test_a_held_one_that_never_arrived_goes_again_under_its_own_id_when_it_is_released(open_day) -> None:
    async with open_day([loan(1)]) as day:
        held = await never_arrived_and_held(day)
        assert await stays_unsent(day)
        await do(day, "release")
        assert (await day.send()).accepted == 1
        (paid,) = await day.payments()
        assert paid["originator_conversation_id"] == held["originator_conversation_id"]


async def test_a_held_one_that_never_arrived_is_cancelled_once_a_person_looked_it_up(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await never_arrived_and_held(day)
        with pytest.raises(Conflict, match=r"--not-paid, then `cancel`"):
            await do(day, "cancel")
        loan_id = (await day.loan_row(1))["id"]
        await resolve_payout(day.runtime, loan_id, SeenUnpaid(), evidence="portal, no such payment", actor="ops:asha")
        assert await stays_unsent(day)
        assert await day.held_cents() == 0
        await do(day, "cancel")
        assert await standing(day) == ("held", "cancelled")


async def test_a_late_time_out_is_asked_about_and_lifts_no_hold(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await never_arrived_and_held(day)
        await tell(day, b"", "b2c_timeout", attempt["id"].hex)
        assert await standing(day) == BY_PERSON
        with pytest.raises(Conflict, match="nobody knows"):
            await do(day, "release")
        assert await pass_and_ask(day) == 1
        assert await stays_unsent(day)
        await do(day, "release")
        assert (await day.send()).accepted == 1


@pytest.mark.parametrize("code", [8, 1, 4])
async def test_a_late_failure_lifts_no_hold_and_gives_the_charges_back(open_day, code: int) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await never_arrived_and_held(day), code=code))
        assert await day.held_cents() == 0
        assert await stays_unsent(day)
        assert "agreed with the branch" in (await day.loan_row(1))["reason"]


async def test_a_late_payment_is_booked_though_a_person_holds_the_loan(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await never_arrived_and_held(day)))
        assert await day.states() == {1: "paid"}
