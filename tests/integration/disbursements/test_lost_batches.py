"""A batch whose tick or run was lost is formed anew soon, one whose run is under way is not, and nothing is sent twice."""

import asyncio

from tests.integration.disbursements.conftest import loan
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.sending import send_batch
from vault_core.wallets.charges import load_tariffs


async def test_a_batch_that_nobody_works_on_is_formed_anew_after_two_minutes_and_paid_once_by_both_runs(open_day) -> None:
    async with open_day([loan(number) for number in range(1, 9)]) as day:
        await day.fund(1000)
        await day.poll()
        (lost,) = await form_batches(day.runtime)
        day.clock.pass_time(seconds=119)
        assert await form_batches(day.runtime) == []
        day.clock.pass_time(seconds=2)
        (anew,) = await form_batches(day.runtime)
        assert anew.loans == 8
        await asyncio.gather(*(send_batch(day.runtime, day.connections, batch.id) for batch in (lost, anew)))
        assert len(await day.payments()) == 8
        assert set((await day.states()).values()) == {"accepted"}


async def test_what_is_left_of_a_batch_waits_for_its_run_while_that_claims_and_is_taken_up_when_it_has_died(open_day) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        await day.fund(1000)
        await day.poll()
        (batch,) = await form_batches(day.runtime)
        async with day.runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        for _ in range(2):
            day.clock.pass_time(seconds=100)
            await claim(day.runtime, tariffs, day.partner.id, Selection(batch_id=batch.id), 1)
            assert await form_batches(day.runtime) == []
        day.clock.pass_time(seconds=121)
        (anew,) = await form_batches(day.runtime)
        assert anew.loans == 1
        assert (await send_batch(day.runtime, day.connections, anew.id)).accepted == 1
        assert len(await day.payments()) == 1  # the two others were claimed by the run that died: recovery asks about them
