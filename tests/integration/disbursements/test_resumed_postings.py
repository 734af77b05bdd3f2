"""Postings that a person was handed, taken up again once the cause is gone: posted once, whatever Mifos X has by then."""

import asyncio
import base64
import json

import pytest
from typer.testing import CliRunner

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from vault_cli.disbursements import app
from vault_core.clients.mifos import ApprovedLoan, CoreWrite, MifosClient, Posted
from vault_core.disbursements.resuming import resume_postings
from vault_core.errors import Unreachable
from vault_core.outcome import Outcome, Refusal, Refused, Unknown


async def resumed(day: Day) -> list[str]:
    return await resume_postings(day.runtime, "alpha", actor="ops:test", reason="Mifos X is back")


@pytest.mark.parametrize("arrived", [True, False])
async def test_what_was_handed_over_is_posted_once_when_it_is_taken_up_again(
    open_day, monkeypatch: pytest.MonkeyPatch, arrived
) -> None:
    real = MifosClient.disburse

    async def no_answer(self: MifosClient, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        if arrived:
            await real(self, loan_id, write)
        return Unknown("no answer")

    async def away(_self: MifosClient, _loan_id: int) -> ApprovedLoan:
        raise Unreachable("Mifos X is away")

    async with open_day([loan(1)]) as day:
        await paid(day)
        with monkeypatch.context() as outage:
            outage.setattr(MifosClient, "disburse", no_answer)
            outage.setattr(MifosClient, "loan", away)
            for _ in range(13):
                await day.post()
                day.clock.pass_time(hours=2)
        assert await day.states() == {1: "needs_review"}
        (row,) = await day.rows("SELECT receipt FROM disbursements")
        assert await resumed(day) == [row["receipt"]]
        assert await day.cases() == []
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1
        assert await day.balance("disbursed_unposted") == 0
        assert await resumed(day) == []


async def test_what_was_refused_for_good_is_tried_under_a_new_key(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        real, keys = MifosClient.disburse, []

        async def refused(_self: MifosClient, _loan_id: int, write: CoreWrite) -> Outcome[Posted]:
            keys.append(write.idempotency_key)
            return Refused("error.msg.loan.rule", "a rule of the tenant", Refusal.TERMINAL)

        monkeypatch.setattr(MifosClient, "disburse", refused)
        await day.post()
        assert await day.states() == {1: "needs_review"}
        monkeypatch.setattr(MifosClient, "disburse", real)
        assert len(await resumed(day)) == 1
        (posting,) = await day.rows("SELECT idempotency_key FROM core_postings")
        assert posting["idempotency_key"] not in keys
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1


async def test_a_payout_that_is_not_known_to_be_paid_or_differs_is_not_taken_up(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, amount="14999.00"))
        assert await day.states() == {1: "needs_review"}
        assert await resumed(day) == []
        assert await day.cases() == ["paid_amount_differs"]


async def test_the_command_says_what_it_took_up(open_day, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}")
    async with open_day([loan(1)]) as day:
        await paid(day)
        async with day.runtime.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE disbursements SET state = 'needs_review'")
        said = await asyncio.to_thread(CliRunner().invoke, app, ["resume", "alpha", "--reason", "back", "--json"])
        assert said.exit_code == 0, said.output
        (row,) = await day.rows("SELECT receipt, state FROM disbursements")
        assert json.loads(said.stdout) == {"resumed": [row["receipt"]]}
        assert row["state"] == "posting"
