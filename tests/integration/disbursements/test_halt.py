"""Stopping all sending: promptly, in every process, with nothing in flight forgotten, and every loan paid once after it."""

import asyncio
import base64
import os
import sys
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import text

from local_stack.home import REPOSITORY
from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from vault_core.clients.daraja import DarajaClient
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.payout_halt import begin_halt, end_halt, halt_in_force
from vault_core.disbursements.sending_gate import enter_claim, let_claims_end
from vault_core.disbursements.under_way import await_quiet, under_way
from vault_core.errors import InvalidInput
from vault_core.partners.states import pause_partner, resume_partner
from vault_core.wallets.charges import load_tariffs

LOANS = 120


async def halt(day: Day) -> None:
    await begin_halt(day.runtime, reason="wrong float", actor="ops:asha")


async def go_on(day: Day) -> None:
    assert await end_halt(day.runtime, reason="float bought", actor="ops:asha") is not None


def sender_environment(day: Day, database_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "VAULT_MASTER_KEY": f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}",
        "VAULT_PUBLIC_URL": day.runtime.public_url,
        "VAULT_B2C_IN_FLIGHT": "16",
        "VAULT_B2C_PER_SECOND": "40",  # so that many are claimed and wait for their turn when the stop comes
    }


async def start_sender(day: Day, database_url: str, *batches: str, **settings: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "tests.integration.disbursements.sender_process", *batches)
    environment = {**sender_environment(day, database_url), **settings}
    return await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, env=environment)


async def until_paid(day: Day, most: int) -> None:
    async with asyncio.timeout(60):
        while len(await day.payments()) < most:  # noqa: ASYNC110 - other processes are waited for
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("stop", ["everything", "the partner"])
async def test_nothing_begins_after_the_stop_is_acknowledged_and_every_loan_is_paid_once(
    open_day, database_url: str, stop: str
) -> None:
    numbers = range(1, LOANS + 1)
    async with open_day([loan(number) for number in numbers], [client(number) for number in numbers]) as day:
        await day.control("settings", {"b2c_latency_ms": 50})
        await day.fund(50_000)
        await day.poll()
        (batch,) = await form_batches(day.runtime)
        senders = [await start_sender(day, database_url, str(batch.id)) for _ in range(2)]
        await until_paid(day, 10)

        if stop == "everything":
            await halt(day)
            assert await await_quiet(day.runtime, within=60) == []
        else:
            await pause_partner(day.runtime, day.partner.id, reason="audit", actor="ops:asha")
            assert await await_quiet(day.runtime, within=60, partner_id=day.partner.id) == []
        acknowledged = {payment["originator_conversation_id"] for payment in await day.payments()}
        assert 10 <= len(acknowledged) < LOANS
        assert [await sender.wait() for sender in senders] == [0, 0]  # they went on as long as they wanted
        assert {payment["originator_conversation_id"] for payment in await day.payments()} == acknowledged
        states = Counter((await day.states()).values())
        assert states["accepted"] + states["held"] == LOANS
        assert states["held"] == LOANS - len(acknowledged)

        if stop == "everything":
            await go_on(day)
        else:
            await resume_partner(day.runtime, day.partner.id, reason="done", actor="ops:asha")
        day.clock.pass_time(minutes=2)
        await day.review()
        await day.send()
        await day.hear("b2c_result")
        paid = [payment["phone"] for payment in await day.payments()]
        assert len(paid) == len(set(paid)) == LOANS
        assert set((await day.states()).values()) == {"paid"}
        assert day.ledger_findings() == []


async def test_what_waits_for_an_access_token_when_the_stop_comes_is_not_sent(open_day, monkeypatch) -> None:
    real = DarajaClient.fetch_token

    async def stopped_meanwhile(client: DarajaClient) -> tuple[str, timedelta]:
        await halt(day)
        return await real(client)

    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE access_tokens SET expires_at = '2020-01-01T00:00:00Z'"))
        day.connections.forget(day.partner.id)
        monkeypatch.setattr("vault_core.disbursements.sending_gate.FRESH", 0.0)
        monkeypatch.setattr(DarajaClient, "fetch_token", stopped_meanwhile)
        await day.send()
        assert await day.payments() == []
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", "sending_halted")
        await go_on(day)
        monkeypatch.setattr(DarajaClient, "fetch_token", real)
        day.clock.pass_time(minutes=2)
        await day.review()
        assert (await day.send()).accepted == 1
        assert len(await day.payments()) == 1


async def test_a_claim_that_began_before_the_stop_is_waited_for(open_day) -> None:
    async with open_day([loan(1)]) as day, day.runtime.engine.begin() as claiming:
        await enter_claim(claiming)
        await halt(day)
        waiting = asyncio.create_task(await_quiet(day.runtime, within=10))
        async with day.runtime.engine.connect() as other:
            async with asyncio.timeout(10):
                while not await _waits_for_the_lock(other):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert not waiting.done()
        await claiming.rollback()
        assert await waiting == []


async def _waits_for_the_lock(connection) -> bool:
    rows = await connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    return bool(rows.scalar_one())


async def test_what_was_claimed_and_not_answered_is_named_and_the_halt_holds(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        async with day.runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        claimed = await claim(day.runtime, tariffs, day.partner.id, Selection(), 1)  # its process dies here
        await halt(day)
        (left,) = await await_quiet(day.runtime, within=0)
        assert left.originator_conversation_id == claimed.claimed[0].originator_conversation_id
        day.clock.moment = left.over_at
        async with day.runtime.engine.connect() as connection:
            assert await under_way(connection, day.runtime) == []
        assert await day.recover() == 1
        assert await day.send() == await day.send()
        assert await day.payments() == []


async def test_a_halt_forms_no_batch_holds_hooked_loans_and_lets_nothing_through(open_day) -> None:
    from vault_core.disbursements.sending import send_ready

    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        await halt(day)
        assert await form_batches(day.runtime) == []
        report = await send_ready(day.runtime, day.connections, [(await day.loan_row(1))["id"]])
        assert (report.accepted, report.held) == (0, 1)
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"], row["hold_id"]) == ("held", "sending_halted", None)
        assert "wrong float" in row["reason"]
        day.clock.pass_time(hours=1)
        assert await day.review() == 0
        await go_on(day)
        assert await day.review() == 1
        assert (await day.send()).accepted == 2


async def test_results_are_heard_and_postings_made_during_a_halt(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await halt(day)
        await day.hear("b2c_result")
        await day.post()
        assert await day.states() == {1: "disbursed"}


async def test_a_halt_is_begun_once_ended_once_and_audited(open_day) -> None:
    async with open_day([]) as day:
        first = await begin_halt(day.runtime, reason="wrong float", actor="ops:asha")
        again = await begin_halt(day.runtime, reason="another", actor="ops:barasa")
        assert again == first
        day.clock.pass_time(seconds=1)
        await go_on(day)
        assert await end_halt(day.runtime, reason="again", actor="ops:asha") is None
        async with day.runtime.engine.connect() as connection:
            assert await halt_in_force(connection) is None
        acts = await day.rows("SELECT act, actor, reason FROM audit_log WHERE subject = 'all payouts' ORDER BY at, id")
        assert [(act["act"], act["reason"]) for act in acts] == [
            ("payouts.halted", "wrong float"), ("payouts.go_on", "float bought"),
        ]  # fmt: skip
        with pytest.raises(InvalidInput):
            await begin_halt(day.runtime, reason="  ", actor="ops:asha")


async def test_an_instruction_that_the_halt_kept_back_goes_again_under_its_own_id_at_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        from vault_core.clients.mifos import MifosClient

        read = MifosClient.loan

        async def halted_meanwhile(self, loan_id: int):
            await halt(day)
            return await read(self, loan_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MifosClient, "loan", halted_meanwhile)
            patch.setattr("vault_core.disbursements.sending_gate.FRESH", 0.0)
            assert (await day.send()).accepted == 0
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], (await day.loan_row(1))["held_for"]) == ("refused", "sending_halted")
        assert await day.held_cents() > 0
        await go_on(day)
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        assert [one["originator_conversation_id"] for one in await day.attempts(1)] == [attempt["originator_conversation_id"]]


async def test_one_sign_of_a_credential_fault_leaves_the_queue_open_and_the_second_stops_it_once(open_day) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        first = await sent(day)
        (second,) = await day.attempts(2)
        await tell(day, result(first, code=2001))
        assert await day.states() == {1: "failed", 2: "accepted", 3: "accepted"}
        assert await day.cases() == []
        await tell(day, result(second, code=8006))
        row = await day.loan_row(2)
        assert (row["state"], row["held_for"]) == ("held", "partner_halted")
        (third,) = await day.attempts(3)
        await tell(day, result(third, code=21))
        assert await day.cases() == ["partner_halted"]
        texts = await day.rows("SELECT template FROM messages")
        assert [told["template"] for told in texts] == ["payouts_stopped"]
        day.clock.pass_time(hours=1)
        assert await day.review() == 0


async def test_a_success_between_two_signs_keeps_the_queue_open(open_day) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        first = await sent(day)
        await tell(day, result(first, code=2001))
        day.clock.pass_time(hours=1)
        assert await day.review() == 1
        await day.send()
        again = (await day.attempts(1))[1]
        await tell(day, result(again))
        (third,) = await day.attempts(3)
        await tell(day, result(third, code=2001))  # of an instruction older than the success
        assert await day.cases() == []


async def test_a_late_sign_from_before_the_resume_stops_nothing_and_two_new_ones_do(open_day) -> None:
    async with open_day([loan(1), loan(2), loan(3), loan(4)]) as day:
        first = await sent(day)
        (second,), (third,), (fourth,) = [await day.attempts(number) for number in (2, 3, 4)]
        await tell(day, result(first, code=8006))
        await tell(day, result(second, code=8006))
        assert await day.cases() == ["partner_halted"]
        day.clock.pass_time(minutes=1)
        await resume_partner(day.runtime, day.partner.id, reason="unlocked", actor="ops:asha")
        await tell(day, result(third, code=8006))
        await tell(day, result(fourth, code=8006))
        assert await day.cases() == []
        assert (await day.states())[3] == "failed"  # it goes again by itself
        day.clock.pass_time(hours=1)
        assert await day.review() == 4
        await day.send()
        again = [(await day.attempts(number))[1] for number in (1, 2)]
        await tell(day, result(again[0], code=8006))
        assert await day.cases() == []
        await tell(day, result(again[1], code=8006))
        assert await day.cases() == ["partner_halted"]


async def test_let_claims_end_does_not_wait_for_claims_that_are_over(open_day) -> None:
    async with open_day([]) as day:
        async with day.runtime.engine.begin() as claiming:
            await enter_claim(claiming)
        async with asyncio.timeout(5):
            await let_claims_end(day.runtime)


async def test_a_send_that_waits_for_its_slot_does_not_outwait_the_stop(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    from vault_core.disbursements.send_pace import SendPace

    waits = asyncio.Event()

    async def never(_self: SendPace) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SendPace, "turn", never)
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        sending = asyncio.create_task(day.send())
        async with asyncio.timeout(30):
            await waits.wait()
            await halt(day)
            assert await await_quiet(day.runtime, within=30) == []
            assert (await sending).accepted == 0
        assert await day.payments() == []
        assert {row["held_for"] for row in await day.rows("SELECT held_for FROM disbursements")} == {"sending_halted"}
