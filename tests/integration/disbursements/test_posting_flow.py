"""Postings to one lender's Mifos X beside one another: a slow call holds up none, and the server gets so many at once, no more."""

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from tests.integration.disbursements.test_undo_hooks import hooked
from tests.integration.disbursements.test_unposted_loans import by_hand
from vault_core.clients.mifos import MifosClient


class Gate:
    """Disbursals of the loans in `held` leave and are answered when they are let go; it counts those under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *held: int) -> None:
        self.held = {number: asyncio.Event() for number in held}
        self.under_way, self.most = 0, 0
        self.reads: list[int] = []
        disburse, read = MifosClient.disburse, MifosClient.loan

        async def gated(client: MifosClient, loan_id: int, *what):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            if loan_id in self.held:
                await self.held[loan_id].wait()
            self.under_way -= 1
            return await disburse(client, loan_id, *what)

        async def noted(client: MifosClient, loan_id: int):
            self.reads.append(loan_id)
            return await read(client, loan_id)

        monkeypatch.setattr(MifosClient, "disburse", gated)
        monkeypatch.setattr(MifosClient, "loan", noted)

    def let_go(self) -> None:
        for event in self.held.values():
            event.set()


async def until(day: Day, condition: Callable[[dict[int, str]], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition(await day.states()):  # noqa: ASYNC110 - the database is watched
            await asyncio.sleep(0.02)


async def test_what_is_answered_is_booked_while_another_call_of_its_group_hangs(open_day, monkeypatch) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        await paid(day)
        gate = Gate(monkeypatch, 2)
        posting = asyncio.create_task(day.post())
        await until(day, lambda states: states == {1: "disbursed", 2: "posting", 3: "disbursed"})
        assert [row["state"] for row in await day.rows("SELECT state FROM outbox WHERE kind = 'disbursement.post'")].count(
            "done"
        ) == 2
        gate.let_go()
        await posting
        assert await day.states() == {1: "disbursed", 2: "disbursed", 3: "disbursed"}


async def test_so_many_calls_are_under_way_at_once_and_no_more(open_day, monkeypatch) -> None:
    async with open_day([loan(number) for number in range(1, 13)]) as day:
        await paid(day)
        at_once = day.runtime.pace.mifos_writes_at_once
        gate = Gate(monkeypatch, *range(1, 13))
        posting = asyncio.create_task(day.post())
        async with asyncio.timeout(20):
            while gate.under_way < at_once:  # noqa: ASYNC110 - the calls are waited for
                await asyncio.sleep(0.02)
        gate.let_go()
        await posting
        assert gate.most == at_once == 8
        assert set((await day.states()).values()) == {"disbursed"}


async def test_a_worker_that_ends_in_the_middle_loses_nothing_and_posts_nothing_twice(open_day, monkeypatch) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        await paid(day)
        gate = Gate(monkeypatch, 2)
        posting = asyncio.create_task(day.post())
        await until(day, lambda states: states[1] == states[3] == "disbursed")
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        gate.let_go()
        day.clock.pass_time(minutes=10)  # the leases have run out
        await day.post()
        assert await day.states() == {1: "disbursed", 2: "disbursed", 3: "disbursed"}
        assert len(await disbursals(day)) == 3


async def test_a_first_posting_is_one_request_and_our_own_disbursal_makes_nobody_read_its_loan(open_day, monkeypatch) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await hooked(day)
        await paid(day)
        gate = Gate(monkeypatch)
        await day.post()
        assert await day.states() == {1: "disbursed", 2: "disbursed"}
        await day.hear("mifos_hook")
        assert gate.reads == []


async def test_a_disbursal_that_somebody_else_made_is_read_before_anything_follows(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await paid(day)
        await by_hand(day, "BYHAND1234")
        gate = Gate(monkeypatch)
        await day.post()
        day.clock.pass_time(minutes=10)
        await day.post()
        assert 1 in gate.reads
        assert len(await disbursals(day)) == 1
        assert await day.cases() == ["disbursement_unposted"]
