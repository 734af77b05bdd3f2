"""Workers that are slow: what they saw before another one moved on, and calls that take longer than they may."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_results_and_answers import sent, tell
from vault_core.clients.daraja import DarajaClient
from vault_core.clients.mifos import MifosClient, MifosPerson
from vault_core.disbursements import detection, review

KNOWS_NOTHING = json.dumps({"Result": {"ResultType": 0, "ResultCode": 2033, "ResultDesc": "cannot be found"}}).encode()


async def answer_2033(day: Day) -> str:
    """Asks about the one payout, and tells as the answer that M-Pesa knows nothing of it."""
    assert await day.ask() == 1
    (question,) = await day.rows("SELECT id FROM status_queries ORDER BY asked_at DESC LIMIT 1")
    return await tell(day, KNOWS_NOTHING, "query_result", question["id"].hex)


@pytest.mark.parametrize("minutes", [6, 60])  # late: no worker ran, or a clock jumped
async def test_a_payout_that_was_acknowledged_is_not_taken_for_lost_on_the_first_question(open_day, minutes: int) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        await day.faults(status_result_lost={"rate": 1.0, "per_unit": 100})
        day.clock.pass_time(minutes=minutes)
        assert await answer_2033(day) == "no verdict (2033)"
        assert await day.states() == {1: "unknown"}
        day.clock.pass_time(minutes=11)
        assert (await answer_2033(day)).startswith("failed with 2033")
        assert await day.states() == {1: "failed"}


async def test_a_call_that_hangs_is_given_up_before_recovery_takes_its_instruction(open_day, monkeypatch) -> None:
    async def hang(_self: DarajaClient, _instruction: Any, **_more: Any) -> Any:
        await asyncio.Event().wait()

    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        monkeypatch.setattr(DarajaClient, "pay", hang)
        day.runtime = replace(day.runtime, pace=replace(day.runtime.pace, send_within=0.2, http_timeout=0.1))
        async with asyncio.timeout(10):
            assert (await day.send()).unknown == 1
        assert await day.states() == {1: "unknown"}


async def test_a_review_that_was_slow_leaves_what_is_held_for_another_cause_meanwhile(open_day, monkeypatch) -> None:
    async with open_day([loan(1)], [client(1, "12345")]) as day:
        await day.fund(1000)
        await day.poll()
        assert (await day.loan_row(1))["held_for"] == "bad_phone"
        look = review._look

        async def slow(mifos: Any, item: Any) -> Any:
            found = await look(mifos, item)
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text("UPDATE disbursements SET held_for = 'partner_halted', reason = 'halted'"))
            return found

        monkeypatch.setattr(review, "_look", slow)
        day.clock.pass_time(minutes=6)
        assert await day.review() == 0
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"], row["reason"]) == ("held", "partner_halted", "halted")


@pytest.mark.parametrize("state", ["refused", "written"])
async def test_a_review_that_was_slow_does_not_rewrite_what_an_instruction_was_written_for(open_day, monkeypatch, state) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        async with day.runtime.engine.begin() as connection:
            await connection.execute(
                text("UPDATE disbursements SET state = 'held', held_for = 'not_approved', due_at = :now"),
                {"now": day.clock.now()},
            )
        look = review._look

        async def slow(mifos: Any, item: Any) -> Any:
            found = await look(mifos, item)
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text("UPDATE disbursements SET payout_cents = 700000"))
                await connection.execute(
                    text(
                        "INSERT INTO disbursement_attempts (id, partner_id, disbursement_id, number, originator_conversation_id,"
                        " amount_cents, state, written_at, send_by)"
                        " SELECT id, partner_id, id, 1, 'one', 700000, :state, :now, :now FROM disbursements"
                    ),
                    {"now": day.clock.now(), "state": state},
                )
            return found

        monkeypatch.setattr(review, "_look", slow)
        await day.review()
        assert (await day.loan_row(1))["payout_cents"] == 700_000


async def test_a_loan_that_is_posted_while_a_poll_reads_is_not_taken_for_undone(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        all_approved = detection._all_approved

        async def slow(mifos: Any, partner: Any) -> Any:
            read = await all_approved(mifos, partner)
            day.clock.pass_time(seconds=3)
            await day.post()
            return read

        monkeypatch.setattr(detection, "_all_approved", slow)
        (report,) = await day.poll()
        assert (report.approved, report.found) == (1, 0)
        assert await day.states() == {1: "disbursed"}
        assert await day.cases() == []


async def test_a_number_corrected_while_the_loan_waited_for_the_wallet_is_the_one_that_is_paid(open_day, monkeypatch) -> None:
    async def corrected(_self: MifosClient, client_id: int) -> MifosPerson:
        return MifosPerson(client_id, "Wanjiku", "0712345678")

    async with open_day([loan(1)]) as day:
        await day.poll()
        await day.send()
        assert (await day.loan_row(1))["held_for"] == "wallet_short"
        monkeypatch.setattr(MifosClient, "client", corrected)
        await day.fund(1000)
        day.clock.pass_time(days=2)
        assert await day.review() == 1
        assert (await day.send()).not_sent == 1
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        (paid,) = await day.payments()
        assert paid["phone"] == "254712345678"
        assert [attempt["state"] for attempt in await day.attempts(1)] == ["failed", "accepted"]
        assert await day.cases() == []
