"""The pace of sending on a real database and against the sandbox's gateway."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from tests.integration.disbursements.conftest import client, loan
from tests.integration.disbursements.test_halt import start_sender
from vault_core.database import in_transaction
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.send_pace import SendPace, slow_down
from vault_core.disbursements.sending import send_ready
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
        assert (len(first.claimed), again.claimed, again.full, again.is_empty) == (2, (), True, False)
        day.clock.pass_time(seconds=runtime.pace.send_within + 1)  # the last moment to begin is over, but not what began at it
        assert (await claim(runtime, tariffs, day.partner.id, everything, 100)).full
        day.clock.pass_time(seconds=runtime.pace.http_timeout)  # their sender died: they are recovery's, and in nobody's way
        assert len((await claim(runtime, tariffs, day.partner.id, everything, 100)).claimed) == 2


async def test_the_loan_of_a_hook_does_not_wait_for_the_slots_of_a_sender_that_died(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(5000)
        await day.poll()
        runtime = replace(day.runtime, pace=replace(day.runtime.pace, b2c_in_flight=1))
        first, second = (row["id"] for row in await day.rows("SELECT id FROM disbursements ORDER BY loan_id"))
        async with runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        assert len((await claim(runtime, tariffs, day.partner.id, Selection(ids=(first,)), 1)).claimed) == 1
        async with asyncio.timeout(20):  # the clock stands: the slot of the dead is never free
            assert (await send_ready(runtime, day.connections, [second])).accepted == 0
        assert await day.states() == {1: "sending", 2: "ready"}
        day.clock.pass_time(seconds=runtime.pace.send_within + runtime.pace.http_timeout + 1)
        assert (await day.send()).accepted == 1
        assert await day.states() == {1: "sending", 2: "accepted"}


async def test_two_processes_have_no_more_requests_at_m_pesa_at_once_than_one_may(open_day, database_url: str) -> None:
    numbers, latency = range(1, 61), timedelta(milliseconds=300)
    async with open_day([loan(number) for number in numbers], [client(number) for number in numbers]) as day:
        await day.control("settings", {"b2c_latency_ms": latency // timedelta(milliseconds=1)})
        await day.fund(5000)
        await day.poll()
        (batch,) = await form_batches(day.runtime)
        pace = {"VAULT_B2C_IN_FLIGHT": "6", "VAULT_B2C_PER_SECOND": "1000"}
        senders = [await start_sender(day, database_url, str(batch.id), **pace) for _ in range(2)]
        assert [await sender.wait() for sender in senders] == [0, 0]
        taken = sorted(datetime.fromisoformat(payment["at"]) for payment in await day.payments())
        # Each was at M-Pesa for at least its latency before it was taken.
        at_once = [sum(moment <= other < moment + latency for other in taken) for moment in taken]
        assert len(taken) == len(numbers)
        assert 3 <= max(at_once) <= 6
