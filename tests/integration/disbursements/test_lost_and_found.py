"""Answers and results that never come, processes that die, and what settles them: status questions and evidence."""

import asyncio

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_results_and_answers import tell

_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def pass_and_ask(day: Day, **amount: float) -> int:
    day.clock.pass_time(**(amount or {"minutes": 11}))
    asked = await day.ask()
    await day.hear("query_result")
    return asked


async def test_an_answer_lost_after_paying_is_settled_by_the_result(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(answer_lost_after_paying={"rate": 1.0})
        await day.poll()
        assert (await day.send()).unknown == 1
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}
        assert len(await day.payments()) == 1


async def test_a_lost_result_is_found_by_a_status_question(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0})
        await day.poll()
        await day.send()
        await day.hear()
        assert await day.states() == {1: "accepted"}
        assert await day.ask() == 0  # too early
        assert await pass_and_ask(day, minutes=6) == 1
        assert await day.states() == {1: "paid"}
        (paid,) = await day.payments()
        assert (await day.loan_row(1))["receipt"] == paid["receipt"]
        (question,) = await day.rows("SELECT * FROM status_queries")
        assert (question["outcome"], question["transaction_status"]) == ("accepted", "Completed")
        await day.post()
        assert await day.states() == {1: "disbursed"}


async def test_an_answer_and_a_result_both_lost_are_found_too(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(answer_lost_after_paying={"rate": 1.0}, result_lost={"rate": 1.0})
        await day.poll()
        await day.send()
        assert await day.states() == {1: "unknown"}
        await pass_and_ask(day)
        assert await day.states() == {1: "paid"}
        assert len(await day.payments()) == 1


async def test_what_never_arrived_goes_again_under_its_own_id(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(html_answer={"units": ["254700000001"], "scope": ["600100"]})
        await day.poll()
        assert (await day.send()).unknown == 1
        await pass_and_ask(day)
        assert await day.states() == {1: "ready"}
        assert await day.held_cents() > 0
        assert (await day.send()).accepted == 1
        (attempt,) = await day.attempts(1)
        assert (attempt["sends"], attempt["state"]) == (2, "accepted")
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}
        (paid,) = await day.payments()
        assert paid["originator_conversation_id"] == attempt["originator_conversation_id"]


async def test_a_duplicate_answer_is_unknown_and_never_sent_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(duplicate_answer={"rate": 1.0}, result_lost={"rate": 1.0})
        await day.poll()
        assert (await day.send()).unknown == 1
        await pass_and_ask(day)
        assert await day.states() == {1: "paid"}
        assert (await day.attempts(1))[0]["sends"] == 1


async def test_questions_without_answers_end_with_a_person_who_has_the_evidence(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"units": ["254700000001"]}, status_result_lost={"rate": 1.0, "per_unit": 100})
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        for _ in range(6):
            assert await pass_and_ask(day) == 1
        assert await pass_and_ask(day) == 0
        assert await day.states() == {1: "needs_review", 2: "paid"}
        (case,) = await day.rows("SELECT * FROM cases")
        assert case["kind"] == "payout_unresolved"
        assert case["evidence"]["originator_conversation_id"] == (await day.attempts(1))[0]["originator_conversation_id"]
        assert "254700000001" not in str(case["evidence"])
        assert await day.held_cents() > 0
        assert await pass_and_ask(day) == 0


async def test_nothing_is_asked_and_no_person_bothered_while_a_result_waits_in_the_inbox(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"units": ["254700000002"]})
        await day.poll()
        await day.send()
        await day.quiet()  # the result of the first is stored, and nobody reads it
        day.clock.pass_time(minutes=11)
        assert await day.ask() == 1
        assert await day.states() == {1: "accepted", 2: "accepted"}
        await day.quiet()
        day.clock.pass_time(minutes=11)
        assert await day.ask() == 0  # the answer about the second waits there, too
        day.clock.pass_time(hours=1)
        assert await day.ask() == 2  # what nobody could read for so long is no reason to wait
        await day.hear()
        assert await day.states() == {1: "paid", 2: "paid"}


async def test_a_result_that_comes_after_a_person_took_over_still_counts(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0}, status_result_lost={"rate": 1.0, "per_unit": 100})
        await day.poll()
        await day.send()
        for _ in range(7):
            await pass_and_ask(day)
        assert await day.states() == {1: "needs_review"}
        from tests.integration.disbursements.test_results_and_answers import result

        await tell(day, result((await day.attempts(1))[0]))
        assert await day.states() == {1: "paid"}
        assert await day.cases() == []


async def test_a_failure_that_comes_after_a_person_took_over_is_not_tried_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0}, status_result_lost={"rate": 1.0, "per_unit": 100})
        await day.poll()
        await day.send()
        for _ in range(7):
            await pass_and_ask(day)
        assert await day.states() == {1: "needs_review"}
        from tests.integration.disbursements.test_results_and_answers import result

        await tell(day, result((await day.attempts(1))[0], code=8))
        assert await day.cases() == ["payout_failed"]
        assert await day.held_cents() == 0
        day.clock.pass_time(days=1)
        await day.review()
        assert (await day.send()).accepted == 0
        assert await day.states() == {1: "needs_review"}


@pytest.mark.parametrize("code", [25, 2032, 2001])
async def test_a_question_that_failed_itself_says_nothing_about_the_payout(open_day, code: int) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0}, status_result_lost={"rate": 1.0})
        await day.poll()
        await day.send()
        await pass_and_ask(day)
        (question,) = await day.rows("SELECT id FROM status_queries")
        body = b'{"Result":{"ResultType":0,"ResultCode":%d,"ResultDesc":"x","TransactionID":"UA10000000"}}' % code
        assert (await tell(day, body, "query_result", question["id"].hex)).startswith("no verdict")
        assert await day.states() == {1: "accepted"}
        row = await day.rows("SELECT state FROM partners")
        assert row[0]["state"] == "active"


async def test_a_process_that_died_before_sending_leaves_an_instruction_that_is_paid_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vault_core.clients.daraja.DarajaClient.pay", _die)
            with pytest.raises(KeyboardInterruptStandIn):
                await day.send()
        assert await day.states() == {1: "sending"}
        assert await day.recover() == 0  # somebody may be sending it still
        day.clock.pass_time(minutes=5)
        assert await day.recover() == 1
        assert await day.states() == {1: "unknown"}
        await pass_and_ask(day)
        await day.send()
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}
        assert len(await day.payments()) == 1


async def test_a_process_that_died_after_sending_leaves_a_payment_that_is_found(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0})
        await day.poll()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vault_core.disbursements.sending.record_answers", _die)
            with pytest.raises(KeyboardInterruptStandIn):
                await day.send()
        day.clock.pass_time(minutes=5)
        await day.recover()
        await pass_and_ask(day)
        assert await day.states() == {1: "paid"}
        assert len(await day.payments()) == 1


async def test_a_verdict_that_comes_while_recovery_looks_stands(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vault_core.disbursements.sending.record_answers", _die)
            with pytest.raises(KeyboardInterruptStandIn):
                await day.send()
        day.clock.pass_time(minutes=5)
        async with day.runtime.engine.connect() as verdict, day.runtime.engine.connect() as other:
            await verdict.execute(text("SELECT FROM disbursements FOR UPDATE"))
            recovering = asyncio.create_task(day.recover())
            async with asyncio.timeout(10):
                while not (await other.execute(_WAITING)).scalar_one():  # noqa: ASYNC110 - another connection is waited for
                    await asyncio.sleep(0.01)
            await verdict.execute(text("UPDATE disbursement_attempts SET state = 'failed'"))
            await verdict.execute(text("UPDATE disbursements SET state = 'failed'"))
            await verdict.commit()
            assert await recovering == 0
        assert await day.states() == {1: "failed"}
        assert [attempt["state"] for attempt in await day.attempts(1)] == ["failed"]


class KeyboardInterruptStandIn(Exception):
    pass


async def _die(*_: object, **_more: object) -> None:
    raise KeyboardInterruptStandIn
