"""A Mifos X that is away uses up no try: what is paid waits as a queue, and is posted when the server is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, client, lender_day, loan, world
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from tests.integration.disbursements.test_unposted_loans import by_hand, handed_over
from vault_core.clients.mifos import MifosClient
from vault_core.clock import business_day
from vault_core.disbursements.review import read_held_again, release_held
from vault_core.disbursements.unposted import look_for_posted
from vault_core.errors import Unreachable
from vault_core.outbox.calls import MIFOS_TOPIC, claim_calls, take_due_for_relay
from vault_core.postings.mifos_outages import note_away, probe_away
from vault_core.runtime import Runtime


async def move_mifos(day: Day, url: str) -> str:
    """Has the partner's Mifos X looked for at another address; returns the former."""
    async with day.runtime.engine.begin() as connection:
        former = (
            await connection.execute(text("SELECT mifos_url FROM partners WHERE id = :id"), {"id": day.partner.id})
        ).scalar()
        await connection.execute(text("UPDATE partners SET mifos_url = :url WHERE id = :id"), {"id": day.partner.id, "url": url})
    day.connections.forget(day.partner.id)
    return str(former)


@asynccontextmanager
async def away(day: Day, how: str = "refused") -> AsyncIterator[None]:
    """While it lasts the partner's Mifos X is not there."""
    if how in {"gateway", "broken"}:
        option = "away" if how == "gateway" else how
        await day.control("setup", {"mifos": {"alpha": {option: True}}})
        yield
        await day.control("setup", {"mifos": {"alpha": {option: False}}})
        return
    port = day.sandbox.rsplit(":", 1)[1]
    path = "/fineract-provider/api/v1"
    urls = {
        "refused": f"http://127.0.0.1:9{path}",
        "tls": f"https://127.0.0.1:{port}{path}",
        "dns": f"http://mifos.invalid{path}",
    }
    former = await move_mifos(day, urls[how])
    yield
    await move_mifos(day, former)


async def probe(day: Day) -> int:
    return await probe_away(day.runtime, day.connections)


async def wait_for(day: Day, hours: int) -> None:
    """What workers do while time passes."""
    for _ in range(hours):
        day.clock.pass_time(hours=1)
        await probe(day)
        await day.post()


async def postings(day: Day) -> list[dict[str, Any]]:
    return await day.rows("SELECT state, tries FROM core_postings ORDER BY account_id")


@pytest.mark.parametrize("how", ["refused", "tls", "dns", "gateway", "broken"])
async def test_an_outage_longer_than_all_tries_would_last_gives_no_loan_to_a_person(open_day, how: str) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await paid(day)
        async with away(day, how):
            await day.post()
            await wait_for(day, 20)
            assert await day.states() == {1: "posting", 2: "posting"}
            assert await day.cases() == ["mifos_away"]
            assert [row["tries"] for row in await postings(day)] == [0, 0]
            assert [row["tries"] for row in await day.rows("SELECT tries FROM outbox WHERE kind = 'disbursement.post'")] == [0, 0]
        day.clock.pass_time(minutes=1)
        assert await probe(day) == 1
        await day.post()
        assert await day.states() == {1: "disbursed", 2: "disbursed"}
        assert await day.cases() == []
        assert len(await disbursals(day)) == 2
        assert [row["tries"] for row in await postings(day)] == [1, 1]


async def test_a_write_that_did_not_leave_is_no_try_when_the_server_is_away(open_day, monkeypatch) -> None:
    async def kept_before(_self: MifosClient) -> None:
        return None

    async with open_day([loan(1)]) as day:
        await paid(day)
        monkeypatch.setattr(MifosClient, "business_date", kept_before)
        async with away(day):
            await day.post()
            await wait_for(day, 14)
            assert (await postings(day), await day.states()) == ([{"state": "unknown", "tries": 0}], {1: "posting"})
            assert "ConnectError" in (await day.rows("SELECT last_answer FROM core_postings"))[0]["last_answer"]


async def test_an_answer_that_is_none_of_the_servers_own_does_count_while_the_server_is_there(open_day) -> None:
    # 503 to a write: whether it was passed on to the server nobody knows.
    async with open_day([loan(1)]) as day:
        await paid(day)
        await day.faults(html_answer={"units": ["loan:1"], "per_unit": 100})
        await day.post()
        await wait_for(day, 14)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert [row["tries"] for row in await postings(day)] == [12]


async def test_one_loan_that_cannot_be_read_on_a_server_that_is_there_comes_to_a_person(open_day, monkeypatch) -> None:
    from vault_core.clients.mifos import ApprovedLoan

    async def slow(_self: MifosClient, _loan_id: int) -> ApprovedLoan:
        raise Unreachable("Mifos X: no whole answer within 60 s")

    async with open_day([loan(1)]) as day:
        await paid(day)
        day.clock.pass_time(minutes=15)  # then it is read before its first call
        monkeypatch.setattr(MifosClient, "loan", slow)
        await day.post()
        await wait_for(day, 14)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]


async def test_the_others_go_on_while_one_mifos_is_away(open_day, vault, sandbox, clock, callbacks) -> None:
    today = business_day(clock.now()).isoformat()
    beta_world = world("beta", "600200", [{"approved_on": today, **loan(1)}], [client(1, "0711000001")])
    async with (
        open_day([loan(1)]) as alpha,
        lender_day(vault, sandbox, clock, callbacks, beta_world, name="beta", short_code="600200") as beta,
    ):
        await beta.fund(1000, "T2")
        await paid(alpha)  # and beta's loan: what is stored and due is everybody's
        async with away(alpha):
            await alpha.post()
            rows = await beta.rows("SELECT partner_id, state FROM disbursements")
            states = {row["partner_id"]: row["state"] for row in rows}
            assert (states[alpha.partner.id], states[beta.partner.id]) == ("posting", "disbursed")
            clock.pass_time(minutes=1)
            assert await relayed(vault) == []
        assert await probe(alpha) == 1
        assert await relayed(vault) == [f"{alpha.partner.id}:1"]


async def relayed(runtime: Runtime) -> list[str]:
    return [key for _, topic, key in await take_due_for_relay(runtime) if topic == MIFOS_TOPIC]


async def test_what_was_published_before_an_outage_is_not_claimed_in_it_and_is_offered_at_once_after_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        assert await relayed(day.runtime) == [f"{day.partner.id}:1"]
        await note_away(day.runtime, day.partner.id, "it was away for a moment")
        (call,) = await day.rows("SELECT id FROM outbox WHERE kind = 'disbursement.post'")
        assert await claim_calls(day.runtime, [call["id"]]) == []
        day.clock.pass_time(seconds=5)  # far less than until it would be offered again anyway
        assert await relayed(day.runtime) == []
        assert await probe(day) == 1
        assert await relayed(day.runtime) == [f"{day.partner.id}:1"]


async def test_a_loan_whose_posting_a_person_has_is_not_read_in_an_outage_and_at_once_after_it(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await by_hand(day, await handed_over(day, monkeypatch))
        await note_away(day.runtime, day.partner.id, "away")
        day.clock.pass_time(minutes=61)
        assert await look_for_posted(day.runtime, day.connections) == 0
        assert await probe(day) == 1
        assert await look_for_posted(day.runtime, day.connections) == 1
        assert await day.states() == {1: "disbursed"}


async def test_held_loans_are_read_once_on_a_server_that_is_away_and_what_needs_no_read_goes_on(open_day, monkeypatch) -> None:
    read: list[int] = []

    async def slow(_self: MifosClient, loan_id: int) -> Any:
        read.append(loan_id)
        raise Unreachable("no whole answer within 60 s")

    monkeypatch.setattr("vault_core.disbursements.review._READS_AT_ONCE", 1)
    people = [client(1, "12"), client(2, "12"), client(3, "12"), client(4)]
    async with open_day([loan(number) for number in (1, 2, 3, 4)], people) as day:
        await day.poll()  # the wallet is empty
        await day.send()
        assert set((await day.states()).values()) == {"held"}
        await day.fund(1000)
        day.clock.pass_time(minutes=6)
        with monkeypatch.context() as patched:
            patched.setattr(MifosClient, "loan", slow)
            assert await release_held(day.runtime) == 1
            assert await read_held_again(day.runtime, day.connections) == 0
            assert len(read) == 1
            day.clock.pass_time(minutes=6)
            await note_away(day.runtime, day.partner.id, "away")
            assert await read_held_again(day.runtime, day.connections) == 0
            assert len(read) == 1
            day.clock.pass_time(minutes=1)
            assert await probe(day) == 1
            assert await read_held_again(day.runtime, day.connections) == 0
            assert len(read) == 2


async def test_one_probe_at_a_time_asks_at_growing_intervals_and_a_lasting_outage_is_told_once(open_day, monkeypatch) -> None:
    asked: list[int] = []
    real = MifosClient.reach

    async def counted(self: MifosClient) -> None:
        asked.append(1)
        await real(self)

    async with open_day([loan(1)]) as day:
        await paid(day)
        async with away(day):
            await day.post()
            monkeypatch.setattr(MifosClient, "reach", counted)
            gaps, told = [], []
            for _ in range(14):
                (outage,) = await day.rows("SELECT since, probe_at FROM outbox_outages")
                gaps.append((outage["probe_at"] - day.clock.now()).total_seconds())
                day.clock.pass_time(seconds=gaps[-1] + 0.001)
                assert sum(await asyncio.gather(*(probe(day) for _ in range(4)))) == 0
                told.append((day.clock.now() - outage["since"] >= timedelta(minutes=5), await day.cases()))
            assert len(asked) == 14
            assert all(most / 2 <= gap <= most for gap, most in zip(gaps, (5, 10, 20, 40, *[60] * 10), strict=True))
            assert {cases == (["mifos_away"] if lasts else []) for lasts, cases in told} == {True}
            assert {lasts for lasts, _ in told} == {True, False}
            (case,) = await day.rows("SELECT evidence FROM cases")
            assert case["evidence"]["calls_waiting"] == 1
            assert "ConnectError" in case["evidence"]["cause"]


async def test_a_server_that_refuses_our_login_is_there_and_is_a_fault_for_people(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE partners SET mifos_user = 'nobody'"))
        day.connections.forget(day.partner.id)
        await day.post()
        assert await day.rows("SELECT 1 FROM outbox_outages") == []
        await wait_for(day, 14)
        assert await day.cases() == ["disbursement_unposted"]


async def hours_of_payouts(day: Day, hours: int) -> None:
    """What workers do with what may be sent while time passes."""
    for _ in range(hours * 4):
        day.clock.pass_time(minutes=15)
        await probe(day)
        await day.review()
        await day.send()


@pytest.mark.parametrize("how", ["refused", "gateway", "broken"])
async def test_an_outage_before_loans_are_paid_is_no_try_of_theirs_and_one_case(open_day, how: str) -> None:
    async with open_day([loan(number) for number in range(1, 6)]) as day:
        await day.fund(2000)
        await day.poll()
        async with away(day, how):
            report = await day.send()
            assert (report.accepted, report.not_sent + report.held) == (0, 5)
            await hours_of_payouts(day, 5)
            rows = await day.rows("SELECT DISTINCT state, held_for, reason FROM disbursements")
            assert [(row["state"], row["held_for"]) for row in rows] == [("held", "mifos_away")]
            assert "it goes when that is back" in rows[0]["reason"]
            assert await day.cases() == ["mifos_away"]
            assert {row["sends"] for row in await day.rows("SELECT sends FROM disbursement_attempts")} <= {0}
        day.clock.pass_time(minutes=2)
        assert await probe(day) == 1
        assert await day.review() == 5
        assert (await day.send()).accepted == 5
        assert (await day.cases(), len(await day.payments())) == ([], 5)


async def test_one_loan_that_cannot_be_read_before_it_is_paid_uses_its_tries_while_the_server_is_there(
    open_day, monkeypatch
) -> None:
    real = MifosClient.loan

    async def slow(self: MifosClient, loan_id: int, *, history: bool = True) -> Any:
        if loan_id == 1:
            raise Unreachable("no whole answer within 60 s")
        return await real(self, loan_id, history=history)

    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        monkeypatch.setattr(MifosClient, "loan", slow)
        assert (await day.send()).accepted == 1
        await hours_of_payouts(day, 5)
        assert (await day.states(), await day.cases()) == ({1: "needs_review", 2: "accepted"}, ["payout_not_taken"])
        assert await day.rows("SELECT partner_id FROM outbox_outages") == []
