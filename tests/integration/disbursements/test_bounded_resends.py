"""Refused, resent, unknown, asked about, resent: every such round is counted, and ends in a payment, a failure or a person's case."""

from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_send_pace import gap_ms
from vault_core.disbursements.resolution_rules import SeenUnpaid
from vault_core.disbursements.resolving import resolve_payout

PHONE = "254700000001"
MOST_ROUNDS = 60


async def rounds(day: Day, most: int = MOST_ROUNDS) -> int:
    """What the workers do, with time passing, until nothing is awaited any more; how many rounds it took."""
    for done in range(most):
        if (await day.states())[1] in {"paid", "failed", "needs_review"}:
            return done
        day.clock.pass_time(minutes=11)
        await day.recover()
        await day.ask()
        await day.hear("b2c_result", "query_result")
        await day.review()
        await day.send()
        await day.hear("b2c_result")
    pytest.fail(f"no end after {most} rounds: {await day.loan_row(1)}")


async def maybe_taken(day: Day) -> dict[str, Any]:
    """The loan's instruction after a first send that M-Pesa's gateway answered with a page: nobody knows whether it was taken."""
    await day.fund(1000)
    await day.faults(html_answer={"units": [PHONE], "scope": ["600100"]})
    await day.poll()
    assert (await day.send()).unknown == 1
    return (await day.attempts(1))[0]


async def test_a_first_send_refused_by_a_spike_arrest_was_not_taken_and_nobody_is_asked(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(spike_arrest={"units": [PHONE]})
        await day.poll()
        assert (await day.send()).refused == 1
        await rounds(day)
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["sends"], attempt["queries"], attempt["maybe_seen"]) == ("paid", 2, 0, False)
        assert len(await day.payments()) == 1


async def test_first_sends_refused_by_a_spike_arrest_for_ever_end_with_a_person_and_nothing_to_doubt(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(spike_arrest={"units": [PHONE], "per_unit": 1000})
        await day.poll()
        await day.send()
        await rounds(day)
        (attempt,) = await day.attempts(1)
        assert (attempt["sends"], attempt["queries"], attempt["maybe_seen"]) == (day.runtime.pace.outbox_max_tries, 0, False)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["payout_not_taken"]
        assert await day.payments() == []


async def test_resends_refused_by_spike_arrests_for_ever_end_with_a_person_who_can_settle_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        first = await maybe_taken(day)
        await day.faults(spike_arrest={"units": [PHONE], "per_unit": 1000})
        await rounds(day)
        (attempt,) = await day.attempts(1)
        tries = day.runtime.pace.status_query_tries
        assert attempt["originator_conversation_id"] == first["originator_conversation_id"]
        assert (attempt["state"], attempt["maybe_seen"], attempt["queries"]) == ("unknown", True, tries)
        assert 1 < attempt["sends"] <= tries + 1, "each resend followed an answer to a question, and the questions are counted"
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["payout_unresolved"]
        assert await day.held_cents() > 0
        await resolve_payout(
            day.runtime, (await day.loan_row(1))["id"], SeenUnpaid(), evidence="not in the portal at 12:00", actor="ops:test"
        )
        assert (await day.attempts(1))[0]["state"] == "failed"
        assert await day.held_cents() == 0
        assert await day.payments() == []


async def test_resends_refused_by_spike_arrests_that_end_are_paid_once_under_the_same_id(open_day) -> None:
    async with open_day([loan(1)]) as day:
        first = await maybe_taken(day)
        await day.faults(spike_arrest={"units": [PHONE], "per_unit": 3})
        await rounds(day)
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["sends"]) == ("paid", 5)
        assert [payment["originator_conversation_id"] for payment in await day.payments()] == [
            first["originator_conversation_id"]
        ]


async def test_a_spike_arrest_of_a_resend_slows_the_partners_pace_too(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await maybe_taken(day)
        assert await gap_ms(day.runtime) == 1.0
        await day.faults(spike_arrest={"units": [PHONE], "per_unit": 1000})
        day.clock.pass_time(minutes=11)
        await day.ask()
        await day.hear("query_result")
        assert (await day.send()).unknown == 1
        assert await gap_ms(day.runtime) == 2.0


async def test_sends_that_get_a_page_for_an_answer_for_ever_end_with_a_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await maybe_taken(day)
        await day.faults(html_answer={"units": [PHONE], "scope": ["600100"], "per_unit": 1000})
        await rounds(day)
        (attempt,) = await day.attempts(1)
        assert attempt["queries"] == day.runtime.pace.status_query_tries
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["payout_unresolved"]


async def test_a_resend_that_waits_for_the_end_of_a_halt_is_not_worn_out_by_it(open_day) -> None:
    from vault_core.disbursements.payout_halt import begin_halt, end_halt

    async with open_day([loan(1)]) as day:
        await maybe_taken(day)
        day.clock.pass_time(minutes=11)
        await day.ask()
        await day.hear("query_result")
        for _ in range(20):
            await begin_halt(day.runtime, reason="a look at the float", actor="ops:test")
            await day.send()
            day.clock.pass_time(minutes=11)
            await day.review()
            await end_halt(day.runtime, reason="it is well", actor="ops:test")
            day.clock.pass_time(minutes=1)
        await rounds(day)
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["sends"], attempt["queries"]) == ("paid", 2, 1)
        assert len(await day.payments()) == 1
