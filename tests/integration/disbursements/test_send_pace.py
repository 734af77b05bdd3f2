"""The pace of sending on a real database and against the sandbox's gateway."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from tests.integration.disbursements.conftest import loan
from vault_core.database import in_transaction
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.send_pace import SendPace, slow_down
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime
from vault_core.settings import Pace
from vault_core.wallets.charges import load_tariffs


async def gap_ms(runtime: Runtime) -> float:
    async with runtime.engine.connect() as connection:
        return (await connection.exec_driver_sql("SELECT gap_us FROM send_paces")).scalar_one() / 1000


async def test_slots_of_several_senders_never_share_a_moment(runtime: Runtime, lender: Partner) -> None:
    paced = replace(runtime, pace=Pace(b2c_per_second=200.0))
    senders = [SendPace(paced, lender.id) for _ in range(4)]
    taken = [slot for slots in await asyncio.gather(*(sender._take() for sender in senders)) for slot in slots]
    assert len(taken) == len(set(taken)) > 4
    ordered = sorted(taken)
    assert min(later - sooner for sooner, later in pairwise(ordered)) >= timedelta(milliseconds=5)


async def test_after_slow_down_the_slots_of_every_process_are_farther_apart(runtime: Runtime, lender: Partner) -> None:
    paced = replace(runtime, pace=Pace(b2c_per_second=100.0))
    before = await SendPace(paced, lender.id)._take()
    await in_transaction(runtime.engine, lambda connection: slow_down(connection, paced, lender.id))
    after = await SendPace(paced, lender.id)._take()
    assert before[1] - before[0] == timedelta(milliseconds=10)
    assert after[1] - after[0] == timedelta(milliseconds=20)
    assert after[0] > before[-1]


async def test_a_spike_arrest_slows_down_and_every_loan_is_paid_once_in_the_end(open_day) -> None:
    async with open_day([loan(number) for number in range(1, 9)]) as day:
        await day.fund(5000)
        await day.faults(spike_arrest={"times": 4})
        await day.poll()
        sent = await day.send()
        assert sent.refused == 4
        assert await gap_ms(day.runtime) >= 2.0  # from 1 ms
        day.clock.pass_time(hours=2)
        await day.review()
        await day.send()
        await day.hear("b2c_result")
        assert set((await day.states()).values()) == {"paid"}
        assert len(await day.payments()) == 8


async def test_no_more_is_claimed_than_may_be_under_way_over_all_processes(open_day) -> None:
    async with open_day([loan(number) for number in range(1, 8)]) as day:
        await day.fund(5000)
        await day.poll()
        runtime = replace(day.runtime, pace=replace(day.runtime.pace, b2c_in_flight=2))
        everything = Selection(ids=tuple(row["id"] for row in await day.rows("SELECT id FROM disbursements")))
        async with runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        first = await claim(runtime, tariffs, day.partner.id, everything, 100)
        again = await claim(runtime, tariffs, day.partner.id, everything, 100)
        assert (len(first.claimed), again.claimed, again.full, again.is_empty) == (4, (), True, False)
        day.clock.pass_time(seconds=runtime.pace.send_within + 1)  # their sender died: they are recovery's, and in nobody's way
        assert len((await claim(runtime, tariffs, day.partner.id, everything, 100)).claimed) == 3
