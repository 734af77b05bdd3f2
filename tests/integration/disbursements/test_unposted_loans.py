"""Paid loans whose posting a person has: seen when somebody posts them by hand, posted anew after an undoing, put off by a calendar."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from vault_cli.disbursements import app
from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.clock import business_day
from vault_core.disbursements.resuming import resume_postings
from vault_core.disbursements.undone_posting import post_undone_again
from vault_core.disbursements.unposted import look_for_posted
from vault_core.errors import Conflict, NotFound
from vault_core.outcome import Outcome, Refusal, Refused, Unknown


async def command(day: Day, name: str, loan_id: int = 1, **body: Any) -> dict[str, Any]:
    """What an officer does in Mifos X."""
    answer = await day.runtime.http.post(
        f"{day.sandbox}/mifos/alpha/fineract-provider/api/v1/loans/{loan_id}?command={name}",
        json={**body, "locale": "en", "dateFormat": "yyyy-MM-dd"} if body else {},
        auth=("mifos", "password"),
        headers={"Fineract-Platform-TenantId": "default"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def by_hand(day: Day, receipt: str | None, amount: str = "15000", loan_id: int = 1) -> None:
    today = business_day(datetime.now(UTC))  # the server's day: its clock is not the test's
    body = {"actualDisbursementDate": today.isoformat(), "transactionAmount": amount}
    await command(day, "disburse", loan_id, **body, **({"receiptNumber": receipt} if receipt else {}))


async def handed_over(day: Day, monkeypatch: pytest.MonkeyPatch) -> str:
    """A paid loan whose posting Mifos X refused for good; returns its receipt."""

    async def refused(_self: MifosClient, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        return Refused("error.msg.loan.rule", "a rule of the tenant", Refusal.TERMINAL)

    await paid(day)
    with monkeypatch.context() as rule:
        rule.setattr(MifosClient, "disburse", refused)
        await day.post()
    assert await day.states() == {1: "needs_review"}
    return str((await day.loan_row(1))["receipt"])


async def look(day: Day) -> int:
    return await look_for_posted(day.runtime, day.connections)


async def test_what_a_person_posted_by_hand_with_the_receipt_is_seen_within_the_hour_and_booked(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await handed_over(day, monkeypatch)
        await by_hand(day, receipt)
        assert await look(day) == 0  # its look is not due yet
        day.clock.pass_time(minutes=61)
        assert sum(await asyncio.gather(*(look(day) for _ in range(3)))) == 1
        assert await day.states() == {1: "disbursed"}
        assert await day.cases() == []
        assert await day.balance("disbursed_unposted") == 0
        assert await day.balance("loan_book") == 1_500_000
        (posting,) = await day.rows("SELECT state, mifos_transaction_id FROM core_postings")
        (row,) = await disbursals(day)
        assert posting == {"state": "posted", "mifos_transaction_id": row["id"]}
        assert len(await day.rows("SELECT id FROM messages WHERE template = 'loan_disbursed'")) == 1
        day.clock.pass_time(hours=2)
        assert await look(day) == 0
        assert day.ledger_findings() == []


@pytest.mark.parametrize(
    ("receipt", "amount", "words"), [(None, "15000", "somebody else changed it"), ("own", "14000", "instead of KES 15,000.00")]
)
async def test_a_disbursal_by_hand_without_the_receipt_or_of_another_amount_stays_with_the_person(
    open_day, monkeypatch, receipt: str | None, amount: str, words: str
) -> None:
    async with open_day([loan(1)]) as day:
        own = await handed_over(day, monkeypatch)
        await by_hand(day, own if receipt else None, amount)
        day.clock.pass_time(minutes=61)
        assert await look(day) == 0
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert words in (await day.loan_row(1))["reason"]
        assert await day.balance("disbursed_unposted") == 1_500_000


async def test_a_look_posts_nothing_itself_and_comes_again(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await handed_over(day, monkeypatch)
        for _ in range(3):
            day.clock.pass_time(minutes=61)
            assert await look(day) == 0
        assert await disbursals(day) == []
        await by_hand(day, receipt)
        day.clock.pass_time(minutes=61)
        assert await look(day) == 1


async def test_what_a_checker_approves_after_the_tries_is_seen(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        real = MifosClient.disburse
        writes: list[CoreWrite] = []

        async def pending(_self: MifosClient, _loan_id: int, write: CoreWrite) -> Outcome[Posted]:
            writes.append(write)
            return Unknown("waits for a checker in Mifos X (maker-checker): nothing is posted until somebody approves it there")

        monkeypatch.setattr(MifosClient, "disburse", pending)
        for _ in range(13):
            await day.post()
            day.clock.pass_time(hours=2)
        assert await day.states() == {1: "needs_review"}
        assert len(writes) == 1
        await real(await day.connections.mifos(day.partner.id), 1, writes[0])
        assert await look(day) == 1
        assert await day.cases() == []


async def test_an_unreachable_server_does_not_make_it_forget_that_a_checker_has_the_command(open_day, monkeypatch) -> None:
    from vault_core.clients.mifos import ApprovedLoan
    from vault_core.errors import Unreachable

    keys: list[str | None] = []

    async def pending(_self: MifosClient, _loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        keys.append(write.idempotency_key)
        return Unknown("waits for a checker in Mifos X (maker-checker): nothing is posted until somebody approves it there")

    async def away(_self: MifosClient, _loan_id: int) -> ApprovedLoan:
        raise Unreachable("Mifos X is away")

    async with open_day([loan(1)]) as day:
        await paid(day)
        monkeypatch.setattr(MifosClient, "disburse", pending)
        await day.post()
        with monkeypatch.context() as outage:
            outage.setattr(MifosClient, "loan", away)
            day.clock.pass_time(minutes=10)
            await day.post()
        for _ in range(4):
            day.clock.pass_time(minutes=30)
            await day.post()
        assert len(keys) == 1  # a second command would be a second one to approve


async def undone_unseen(day: Day, monkeypatch: pytest.MonkeyPatch) -> str:
    """Posted behind a lost answer, undone by an officer before it was read back; returns the receipt."""
    real = MifosClient.disburse

    async def lost(self: MifosClient, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        await real(self, loan_id, write)
        return Unknown("no answer")

    await paid(day)
    with monkeypatch.context() as outage:
        outage.setattr(MifosClient, "disburse", lost)
        await day.post()
    await command(day, "undodisbursal")
    day.clock.pass_time(minutes=10)
    await day.post()
    assert await day.states() == {1: "needs_review"}
    return str((await day.loan_row(1))["receipt"])


async def again(day: Day, receipt: str) -> str:
    return await post_undone_again(day.runtime, day.connections, "alpha", receipt, actor="ops:test", reason="the money stands")


async def test_what_was_undone_is_posted_again_only_by_a_person_under_a_new_external_id_and_key(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await undone_unseen(day, monkeypatch)
        (before,) = await day.rows("SELECT external_id, idempotency_key FROM core_postings")
        await resume_postings(day.runtime, "alpha", actor="ops:test", reason="try")
        await day.post()
        assert await day.states() == {1: "needs_review"}  # taking it up is no order to post it anew
        assert await again(day, receipt) == f"{before['external_id']}-2"
        assert await day.cases() == []
        await day.post()
        assert await day.states() == {1: "disbursed"}
        live = [row for row in await disbursals(day) if not row["reversed"]]
        assert [row["external_id"] for row in live] == [f"{before['external_id']}-2"]
        (after,) = await day.rows("SELECT external_id, idempotency_key FROM core_postings")
        assert after["idempotency_key"] != before["idempotency_key"]
        assert await day.balance("disbursed_unposted") == 0
        assert await day.balance("loan_book") == 1_500_000
        assert len(await day.payments()) == 1
        assert [row["act"] for row in await day.rows("SELECT act FROM audit_log WHERE act = 'posting.again'")] == [
            "posting.again"
        ]
        with pytest.raises(NotFound):
            await again(day, receipt)


async def test_nothing_is_posted_anew_that_stands_or_was_never_posted(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await handed_over(day, monkeypatch)
        with pytest.raises(Conflict, match="never posted"):
            await again(day, receipt)
        await by_hand(day, receipt)
        with pytest.raises(Conflict, match="closes by itself"):
            await again(day, receipt)
        assert len(await disbursals(day)) == 1
        assert await day.states() == {1: "needs_review"}


async def test_a_second_answer_lost_after_posting_anew_is_found_by_the_new_external_id(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await undone_unseen(day, monkeypatch)
        await again(day, receipt)
        await day.faults(mifos_timeout_after_posting={"units": ["loan:1"]})
        for _ in range(3):
            await day.post()
            day.clock.pass_time(minutes=10)
        assert await day.states() == {1: "disbursed"}
        assert len([row for row in await disbursals(day) if not row["reversed"]]) == 1


@pytest.mark.parametrize("kind", ["holiday", "non.working.day"])
async def test_money_of_a_closed_day_is_posted_under_the_first_day_that_an_older_server_takes(open_day, kind: str) -> None:
    async with open_day([loan(1)], version="1.10.1") as day:
        await paid(day)
        today = business_day(day.clock.now())
        closed = {(today + timedelta(days=after)).isoformat(): kind for after in range(3)}
        for after in range(4):
            assert await disbursals(day) == []
            of_tenant = (today + timedelta(days=after)).isoformat()
            await day.control("setup", {"mifos": {"alpha": {"closed_days": closed, "business_date": of_tenant}}})
            for _ in range(3):  # once a day is enough
                await day.post()
                day.clock.pass_time(minutes=5)
            assert await day.cases() == []
            day.clock.pass_time(days=1)
        assert await day.states() == {1: "disbursed"}
        (posting,) = await day.rows("SELECT transaction_date, tries FROM core_postings")
        assert posting["transaction_date"] == today + timedelta(days=3)
        assert posting["tries"] == 4


async def test_the_tenants_business_date_is_posted_under_when_it_lags(open_day, clock) -> None:
    yesterday = business_day(clock.now()) - timedelta(days=1)
    async with open_day([loan(1, approved_on=yesterday.isoformat())]) as day:
        await paid(day)
        await day.control("setup", {"mifos": {"alpha": {"business_date": yesterday.isoformat()}}})
        await day.post()
        (posting,) = await day.rows("SELECT transaction_date FROM core_postings")
        assert posting["transaction_date"] == yesterday
        assert await day.states() == {1: "disbursed"}


async def test_a_loan_approved_anew_for_another_amount_after_it_was_paid_is_not_posted_short(open_day, monkeypatch) -> None:
    async def away(_self: MifosClient, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        return Unknown("no answer")

    async with open_day([loan(1)]) as day:
        await paid(day)
        with monkeypatch.context() as outage:
            outage.setattr(MifosClient, "disburse", away)
            await day.post()
        await command(day, "undoapproval")
        today = business_day(day.clock.now()).isoformat()
        await command(day, "approve", approvedOnDate=today, approvedLoanAmount="16000")
        day.clock.pass_time(minutes=10)
        await day.post()
        assert await day.states() == {1: "needs_review"}
        assert "approved anew" in (await day.loan_row(1))["reason"]
        assert await disbursals(day) == []


async def test_a_call_first_made_long_after_the_payment_reads_the_loan_first(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        await command(day, "undoapproval")
        today = business_day(day.clock.now()).isoformat()
        await command(day, "approve", approvedOnDate=today, approvedLoanAmount="16000")
        day.clock.pass_time(minutes=30)
        await day.post()
        assert await day.states() == {1: "needs_review"}
        assert await disbursals(day) == []


async def test_a_payment_type_that_is_gone_is_no_fault_of_the_loan_which_goes_once_the_set_up_is_mended(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        before = (await day.rows("SELECT mifos_payment_type_id AS id FROM partners"))[0]["id"]
        await set_payment_type(day, 999)
        await day.post()
        assert await day.states() == {1: "posting"}
        assert "error.msg.payment.type.invalid" in (await day.rows("SELECT last_answer FROM core_postings"))[0]["last_answer"]
        await set_payment_type(day, before)
        day.clock.pass_time(minutes=10)
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert await day.cases() == []


async def set_payment_type(day: Day, number: int) -> None:
    async with day.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET mifos_payment_type_id = :number"), {"number": number})
    day.connections.forget(day.partner.id)


async def test_a_business_date_that_lags_unseen_is_waited_for_a_whole_day(open_day, clock) -> None:
    # The tenant's date is yesterday's and our user may not see it: the posting is refused as one of the future.
    yesterday = business_day(clock.now()) - timedelta(days=1)
    async with open_day([loan(1, approved_on=yesterday.isoformat())]) as day:
        await paid(day)

        async def hidden(_self: MifosClient) -> None:
            return None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MifosClient, "business_date", hidden)
            await day.control("setup", {"mifos": {"alpha": {"business_date": yesterday.isoformat()}}})
            for _ in range(11):
                await day.post()
                day.clock.pass_time(hours=2, minutes=1)
            assert await day.cases() == []
            assert await disbursals(day) == []
        await day.post()
        assert await day.states() == {1: "disbursed"}


async def test_the_command_posts_what_was_undone_anew_and_asks_for_one_receipt(open_day, monkeypatch, database_url: str) -> None:
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}")
    async with open_day([loan(1)]) as day:
        receipt = await undone_unseen(day, monkeypatch)
        words = ["resume", "alpha", "--reason", "it stands", "--json", "--undone"]
        without = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert (without.exit_code, "one --receipt" in without.stderr) == (2, True)
        done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--receipt", receipt])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {"resumed": [receipt]}
        await day.post()
        assert await day.states() == {1: "disbursed"}


async def test_a_server_that_takes_no_day_for_longer_than_any_feast_is_a_persons(open_day) -> None:
    async with open_day([loan(1)], version="unknown") as day:
        await paid(day)
        today = business_day(day.clock.now())
        closed = {(today + timedelta(days=after)).isoformat(): "holiday" for after in range(20)}
        for after in range(6):
            assert await day.cases() == []
            of_tenant = (today + timedelta(days=after)).isoformat()
            await day.control("setup", {"mifos": {"alpha": {"closed_days": closed, "business_date": of_tenant}}})
            await day.post()
            day.clock.pass_time(days=1)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert "expected disbursement date" in (await day.loan_row(1))["reason"]
        await day.control("setup", {"mifos": {"alpha": {"closed_days": {}}}})
        await resume_postings(day.runtime, "alpha", actor="ops:test", reason="the date is mended")
        await day.post()
        assert await day.states() == {1: "disbursed"}
