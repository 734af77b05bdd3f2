"""Two workers with one posting after a lease ran out: whoever lost it neither calls nor overwrites what the other saw."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from vault_core.clients.mifos import CoreWrite, MifosClient
from vault_core.errors import SealBroken
from vault_core.money import Money
from vault_core.outcome import Unknown
from vault_core.postings.core_posting import execute
from vault_core.postings.posting_outcome import InMifos, TryLater


async def posting(day: Day) -> dict[str, Any]:
    (row,) = await day.rows("SELECT * FROM core_postings")
    return row


async def test_an_unclear_answer_after_the_lease_does_not_undo_what_another_worker_posted(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        posting_id = (await posting(day))["id"]
        real = MifosClient.disburse
        others: list[Any] = []

        async def slow(_self: MifosClient, _loan_id: int, _write: Any) -> Any:
            monkeypatch.setattr(MifosClient, "disburse", real)
            day.clock.pass_time(minutes=10)  # the lease ends while the call is under way
            others.append(await execute(day.runtime, day.connections, [posting_id]))
            return Unknown("no answer")

        monkeypatch.setattr(MifosClient, "disburse", slow)
        mine = await execute(day.runtime, day.connections, [posting_id])
        assert isinstance(others[0][posting_id], InMifos)
        assert isinstance(mine[posting_id], TryLater)
        row = await posting(day)
        assert (row["state"], row["mifos_transaction_id"] is not None) == ("posted", True)
        assert len(await disbursals(day)) == 1


async def test_a_call_whose_turn_comes_too_late_is_not_begun(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        posting_id = (await posting(day))["id"]
        real = MifosClient.business_date

        async def slow(self: MifosClient) -> Any:
            day.clock.pass_time(minutes=10)
            return await real(self)

        monkeypatch.setattr(MifosClient, "business_date", slow)
        outcome = (await execute(day.runtime, day.connections, [posting_id]))[posting_id]
        assert isinstance(outcome, TryLater)
        assert "too late" in outcome.cause
        assert await disbursals(day) == []
        monkeypatch.setattr(MifosClient, "business_date", real)
        assert isinstance((await execute(day.runtime, day.connections, [posting_id]))[posting_id], InMifos)


async def test_waiting_for_its_turn_at_a_slow_server_is_no_try_however_often_it_waits_in_vain(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        real = MifosClient.business_date

        async def slow(self: MifosClient) -> Any:
            day.clock.pass_time(minutes=10)
            return await real(self)

        monkeypatch.setattr(MifosClient, "business_date", slow)
        for _ in range(day.runtime.pace.outbox_max_tries + 2):
            await day.post()
            day.clock.pass_time(hours=1)
        assert (await day.states(), await day.cases()) == ({1: "posting"}, [])
        assert (await posting(day))["tries"] == 0
        monkeypatch.setattr(MifosClient, "business_date", real)
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1


async def test_an_error_nobody_foresaw_leaves_the_other_postings_recorded(open_day, monkeypatch) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await paid(day)
        real = MifosClient.disburse

        async def broken(self: MifosClient, loan_id: int, write: Any) -> Any:
            if loan_id == 1:
                raise RuntimeError("nobody foresaw this")
            return await real(self, loan_id, write)

        monkeypatch.setattr(MifosClient, "disburse", broken)
        ids = [row["id"] for row in await day.rows("SELECT id FROM core_postings ORDER BY account_id")]
        with pytest.raises(RuntimeError):
            await execute(day.runtime, day.connections, ids)
        rows = await day.rows("SELECT state, lease_until FROM core_postings ORDER BY account_id")
        assert [row["state"] for row in rows] == ["unknown", "posted"]
        assert rows[1]["lease_until"] is None


async def test_what_waits_for_a_checker_is_not_sent_under_another_key(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        real, keys = MifosClient.disburse, []

        async def to_the_checker(_self: MifosClient, _loan_id: int, write: Any) -> Any:
            keys.append(write.idempotency_key)
            return Unknown("waits for a checker in Mifos X (maker-checker): nothing is posted until somebody approves it there")

        monkeypatch.setattr(MifosClient, "disburse", to_the_checker)
        for _ in range(5):
            await day.post()
            day.clock.pass_time(minutes=20)
        assert len(keys) == 1
        assert await day.states() == {1: "posting"}
        # The checker approves: the command that waited is executed.
        monkeypatch.setattr(MifosClient, "disburse", real)
        row = await posting(day)
        partner = await day.connections.partner(day.partner.id)
        client = await day.connections.mifos(day.partner.id)
        await client.disburse(
            1,
            CoreWrite(
                amount=Money(row["amount_cents"]),
                on=row["transaction_date"],
                payment_type_id=partner.mifos_payment_type_id,
                receipt=row["receipt"],
                account_number=None,
                external_id=row["external_id"],
                idempotency_key="of-the-checker",
                note="",
            ),
        )
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1


async def test_one_disbursement_that_cannot_be_read_holds_back_no_other(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await paid(day)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE core_postings SET account_number_sealed = '\\x00' WHERE account_id = 1"))
        with pytest.raises(SealBroken):
            await day.post()
        assert await day.states() == {1: "posting", 2: "disbursed"}


async def test_an_account_that_is_busy_does_not_use_up_the_tries_in_seconds(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        busy_until = day.clock.now() + timedelta(minutes=3)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE core_postings SET lease_until = :until"), {"until": busy_until})
        while await day.states() != {1: "disbursed"}:
            await day.post()
            day.clock.pass_time(seconds=1)
            assert day.clock.now() < busy_until + timedelta(minutes=10)
        assert await day.cases() == []
