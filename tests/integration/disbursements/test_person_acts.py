"""What people do about one payout, against real rows and a real M-Pesa: retry, hold, cancel, release."""

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.errors import Conflict, InvalidInput

ACTS = {"retry": retry_payout, "hold": hold_payout, "cancel": cancel_payout, "release": release_payout}


async def do(day: Day, what: str, loan_id: int = 1, reason: str = "agreed with the branch") -> str:
    row = await day.loan_row(loan_id)
    return (await ACTS[what](day.runtime, row["id"], actor="ops:asha", reason=reason)).words


async def standing(day: Day, loan_id: int = 1) -> tuple[str, str | None]:
    row = await day.loan_row(loan_id)
    return row["state"], row["held_for"]


async def test_a_failed_payout_is_tried_now_instead_of_later(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=8))
        assert await day.review() == 0
        await do(day, "retry")
        assert (await day.send()).accepted == 1
        first, second = await day.attempts(1)
        assert first["originator_conversation_id"] != second["originator_conversation_id"]
        acts = await day.rows("SELECT actor, act, reason, before, after FROM audit_log WHERE act LIKE 'disbursement.%'")
        assert [(act["actor"], act["act"], act["reason"]) for act in acts] == [
            ("ops:asha", "disbursement.retried", "agreed with the branch")
        ]
        assert (acts[0]["before"]["state"], acts[0]["after"]["state"]) == ("failed", "ready")


async def test_a_limit_of_the_day_is_not_tried_again_on_that_day(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=4))
        with pytest.raises(Conflict, match=r"limit for the day.*goes by itself"):
            await do(day, "retry")
        day.clock.pass_time(days=1)
        await do(day, "retry")


@pytest.mark.parametrize("what", ["retry", "hold", "cancel", "release"])
async def test_nothing_is_done_about_a_payout_whose_outcome_is_unknown(open_day, what: str) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        with pytest.raises(Conflict, match=r"accepted|nobody knows"):
            await do(day, what)
        for _ in range(day.runtime.pace.status_query_tries + 1):
            day.clock.pass_time(minutes=11)
            await day.faults(status_result_lost={"rate": 1.0, "per_unit": 100})
            await day.ask()
        assert await standing(day) == ("needs_review", None)
        with pytest.raises(Conflict, match=r"resolve|with a person"):
            await do(day, what)
        assert len(await day.attempts(1)) == 1


async def test_what_was_refused_for_good_is_released_after_its_cause_was_mended_not_retried(
    open_day, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=2040))
        assert await day.cases() == ["payout_failed"]
        with pytest.raises(Conflict, match="release"):
            await do(day, "retry")
        from vault_core.clients.mifos import MifosClient, MifosPerson

        async def corrected(_self, client_id: int) -> MifosPerson:
            return MifosPerson(client_id, "Wanjiku", "0712345678")

        monkeypatch.setattr(MifosClient, "client", corrected)
        await do(day, "release")
        assert await standing(day) == ("detected", None)
        assert await day.cases() == []
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        assert (await day.payments())[-1]["phone"] == "254712345678"


async def test_a_held_loan_waits_for_its_release_and_is_then_read_again(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        await do(day, "hold")
        assert await standing(day) == ("held", "by_person")
        assert (await day.send()).accepted == 1
        day.clock.pass_time(days=3)
        assert await day.review() == 0
        with pytest.raises(Conflict, match="held already"):
            await do(day, "hold")
        with pytest.raises(Conflict, match="release"):
            await do(day, "retry")
        await do(day, "release")
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        assert len(await day.payments()) == 2


async def test_a_cancelled_loan_is_never_paid_by_a_poll_a_hook_or_the_clock(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=8))
        await do(day, "cancel")
        assert await standing(day) == ("held", "cancelled")
        day.clock.pass_time(days=3)
        await day.poll()
        assert await day.review() == 0
        assert (await day.send()).accepted == 0
        with pytest.raises(Conflict, match="cancelled already"):
            await do(day, "cancel")
        await do(day, "release")
        assert await day.review() == 1


async def test_cancelling_what_m_pesa_never_took_ends_the_instruction_and_gives_the_charges_back(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.faults(spike_arrest={"rate": 1.0, "per_unit": 100})
        await day.poll()
        await day.send()
        assert await standing(day) == ("refused", None)
        held = await day.held_cents()
        await do(day, "cancel")
        (attempt,) = await day.attempts(1)
        assert attempt["state"] == "failed"
        assert await day.held_cents() < held
        assert (await day.loan_row(1))["hold_id"] is None
        assert day.ledger_findings() == []


async def test_cancelling_closes_the_case_of_the_failure(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=2))
        assert await day.cases() == ["payout_failed"]
        await do(day, "cancel")
        assert await day.cases() == []


async def test_a_loan_that_waits_for_something_else_is_not_released_and_says_for_what(open_day) -> None:
    async with open_day([loan(1)], [client(1, "12345")]) as day:
        await day.poll()
        with pytest.raises(Conflict, match="bad_phone"):
            await do(day, "release")
        await do(day, "retry")
        assert await standing(day) == ("detected", None)
        assert await day.review() == 0
        assert await standing(day) == ("held", "bad_phone")


async def test_a_loan_that_waits_for_the_wallet_names_the_wallet(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.poll()
        await day.send()
        for what in ("retry", "release"):
            with pytest.raises(Conflict, match="wallet top-up alpha"):
                await do(day, what)


@pytest.mark.parametrize("what", ["retry", "hold", "cancel", "release"])
async def test_nothing_is_done_about_a_paid_loan(open_day, what: str) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day)))
        with pytest.raises(Conflict, match="is paid, receipt UKO1234567"):
            await do(day, what)


@pytest.mark.parametrize("what", ["retry", "cancel", "release"])
async def test_nothing_is_done_about_a_loan_that_was_said_to_be_paid_after_it_failed(open_day, what: str) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        await tell(day, result(attempt))
        with pytest.raises(Conflict, match="--paid UKO1234567"):
            await do(day, what)


async def test_an_act_needs_a_reason(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.poll()
        with pytest.raises(InvalidInput):
            await do(day, "hold", reason=" ")
