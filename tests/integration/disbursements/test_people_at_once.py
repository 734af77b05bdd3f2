"""Two people at one payout at the same moment: whoever waits for the other sees what that one did."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_bounded_resends import maybe_taken
from tests.integration.disbursements.test_lost_and_found import pass_and_ask
from tests.integration.disbursements.test_resolving import LARGE, approve, resolve, with_a_person
from tests.integration.disbursements.test_results_and_answers import tell
from tests.integration.disbursements.test_resumed_postings import resumed
from tests.integration.disbursements.test_taking_back import booked_as_paid
from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.resolution_rules import SeenUnpaid
from vault_core.disbursements.resolving import Resolution
from vault_core.errors import Conflict
from vault_core.outcome import Outcome, Refusal, Refused
from vault_core.wallets.charges import load_tariffs

_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def one_behind_the_other(day: Day, *acts: Coroutine[Any, Any, Any]) -> list[Any]:
    """What became of the acts, each of which had begun to wait for the payout, in this order, before the first went on."""
    tasks: list[asyncio.Task[Any]] = []
    async with day.runtime.engine.connect() as holder, day.runtime.engine.connect() as other:
        await holder.execute(text("SELECT FROM disbursements FOR UPDATE"))
        for act in acts:
            tasks.append(asyncio.create_task(act))
            async with asyncio.timeout(10):
                while (await other.execute(_WAITING)).scalar_one() < len(tasks):  # noqa: ASYNC110 - others are waited for
                    await asyncio.sleep(0.01)
        await holder.rollback()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_two_who_state_what_became_of_it_the_second_is_told_of_the_first(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        made, refused = await one_behind_the_other(day, resolve(day, who="ops:asha"), resolve(day, who="ops:barasa"))
        assert isinstance(made, Resolution)
        assert isinstance(refused, Conflict)
        assert "waits for a second person" in str(refused)


async def test_what_is_taken_back_this_moment_is_not_taken_up_for_posting(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no(_self: MifosClient, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        return Refused("error.msg.loan.rule", "a rule of the tenant", Refusal.TERMINAL)

    async with open_day([loan(1)]) as day:
        await booked_as_paid(day, posted=False)
        monkeypatch.setattr(MifosClient, "disburse", no)
        await day.post()
        assert await day.states() == {1: "needs_review"}
        await resolve(day, SeenUnpaid())
        done, taken_up = await one_behind_the_other(day, approve(day, "ops:barasa"), resumed(day))
        assert (done.state, taken_up) == ("applied", [])
        assert await day.states() == {1: "needs_review"}


async def test_what_a_process_still_has_to_send_again_is_not_called_unpaid(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await maybe_taken(day)
        await pass_and_ask(day)
        async with day.runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        (claimed,) = (await claim(day.runtime, tariffs, day.partner.id, Selection(), 1)).claimed  # it waits for its turn
        await tell(day, b"", "b2c_timeout", claimed.attempt_id.hex)  # of the sending before
        day.runtime = replace(day.runtime, pace=replace(day.runtime.pace, status_query_tries=1))
        day.clock.pass_time(seconds=40)
        await day.ask()
        assert await day.states() == {1: "needs_review"}
        with pytest.raises(Conflict, match="on its way"):
            await resolve(day, SeenUnpaid())
        day.clock.moment = claimed.send_by
        day.clock.pass_time(minutes=1)
        assert (await resolve(day, SeenUnpaid())).state == "applied"
