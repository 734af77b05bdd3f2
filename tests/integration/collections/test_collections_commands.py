import asyncio
import base64
import json
from datetime import timedelta

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from vault_cli.collections import app
from vault_core.cases.closing import take_case
from vault_core.collections.listing import list_collections
from vault_core.money import Money


@pytest.fixture
def at_home(monkeypatch, database_url):
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    key = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{key}")


pytestmark = pytest.mark.usefixtures("umoja", "at_home")


async def command(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_payments_that_are_not_posted_are_listed_with_their_reason_and_a_masked_reference(umoja):
    await umoja.pay("R1", 500_00, "0712345678")
    await umoja.pay("R2", 500_00, "000000011")
    await umoja.work()
    result = await command("list", "--partner", "umoja", "--json")

    assert result.exit_code == 0, result.output
    [listed] = json.loads(result.stdout)
    assert (listed["receipt"], listed["state"], listed["amount_cents"], listed["reference"]) == (
        "R1",
        "suspense",
        500_00,
        "0***78",
    )
    assert "no loan or savings account" in listed["reason"]
    assert "R1" in (await command("list")).stdout


async def test_the_list_begins_with_the_oldest_and_says_who_looks_after_each_and_who_proposes_what(office):
    older = await office.customer_pays(60_000_00, "nobody")
    office.runtime.clock.pass_time(hours=25)
    younger = await office.customer_pays(500_00, "nobody")
    [case] = [one for one in await office.cases() if older in one.subject]
    await take_case(office.runtime, case.id, "ops:ben", actor="ops:ben")
    await office.assign(older, "loan:000000012", post_all=True)

    async def listed(**which):
        async with office.runtime.engine.connect() as connection:
            return [
                (one.receipt, one.owner, one.waits_for) for one in await list_collections(connection, office.runtime, **which)
            ]

    mine, free = (older, "ops:ben", "ops:anne proposed to assign it"), (younger, None, None)
    assert await listed() == [mine, free]
    assert await listed(older_than=timedelta(hours=24)) == [mine]
    async with office.runtime.engine.begin() as connection:  # as when nobody knows whether Mifos X has it
        await connection.execute(text("UPDATE cases SET kind = 'collection_not_posted' WHERE id = :id"), {"id": case.id})
    assert await listed(older_than=timedelta(hours=24)) == [mine]
    assert await listed(partner="another") == await listed(state="posted") == []


async def test_resume_says_what_it_took_up():
    result = await command("resume", "umoja", "--reason", "Mifos X is back", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"resumed": []}


async def test_a_partner_that_does_not_exist_is_named_and_ends_with_4():
    result = await command("list", "--partner", "nobody")

    assert result.exit_code == 4


@pytest.fixture
def people(monkeypatch):
    """Whose login the next command runs under."""
    who = ["ops:anne"]
    monkeypatch.setattr("vault_cli.collections_decisions.actor", lambda: who[0])
    return who


async def test_a_payment_that_found_no_account_is_followed_from_the_list_to_the_books(office, people):
    await office.setting(assign_alone_up_to=Money(100_00))
    receipt = await office.customer_pays(500_00, "mama mboga")
    office.runtime.clock.pass_time(hours=30)
    listed = json.loads((await command("list", "--state", "suspense", "--json")).stdout)
    assert [(one["receipt"], one["in_suspense"], one["age_hours"] >= 0) for one in listed] == [(receipt, True, True)]
    assert json.loads((await command("list", "--older-than", "1000", "--json")).stdout) == []

    result = await command("assign", receipt, "--account", "loan:000000012", "--reason", "by slip", "--remember")
    assert result.exit_code == 0, result.output
    assert "waits for a second person" in result.stdout
    assert (await command("approve", receipt)).exit_code == 4
    [waiting] = json.loads((await command("proposals", "--json")).stdout)
    assert (waiting["receipt"], waiting["account"], waiting["proposed_by"]) == (receipt, "loan 000000012", "ops:anne")
    people[0] = "ops:ben"
    assert "is under way" in (await command("approve", receipt)).stdout
    await office.settle()

    told = json.loads((await command("show", receipt, "--json")).stdout)
    assert (told["state"], told["account"]) == ("posted", "loan 000000012")
    story = [f"{event['who']}: {event['what']}" for event in told["story"]]
    for part in (
        "M-Pesa: took KES 500.00 from the customer",
        "M-Pesa: confirmation came in: booked",
        "vault: booked it, told by a confirmation",
        "ledger: suspense: collected_unposted debit KES 500.00, suspense credit KES 500.00",
        "vault: case unmatched_payment opened",
        "ops:anne: decided: assign it to loan 000000012; a second person must agree. by slip",
        "ops:ben: agreed",
        "Mifos X: has the repayment",
        "ledger: collection_posted: suspense debit KES 500.00",
        "vault: case unmatched_payment closed: posted to loan 000000012",
    ):
        assert any(each.startswith(part) for each in story), (part, story)
    assert "mama mboga" not in str(told)
    assert receipt in (await command("show", receipt)).stdout


async def test_a_reversal_that_m_pesa_never_answered_is_ended_by_what_another_person_saw(office, people):
    await office.control("settings", {"hang_ms": 10})
    await office.control("faults", {"reversal_answer_lost": {"rate": 1.0}, "reversal_result_lost": {"rate": 1.0}})
    receipt = await office.customer_pays(500_00, "nobody")
    assert (await command("reverse", receipt, "--reason", "paid by mistake")).exit_code == 0
    office.runtime.clock.pass_time(minutes=1)  # the command was run by the machine's own clock
    await office.approve(receipt, actor="ops:ben")
    await office.send_reversals()
    seen = ("reversal-seen", receipt, "--evidence", "M-Pesa portal, organisation, 24 Nov")
    people[0] = "ops:ben"
    assert (await command(*seen, "--not-done")).exit_code == 4  # M-Pesa is still asked
    office.runtime.clock.pass_time(minutes=6)
    await office.send_reversals()
    await office.hear()
    assert (await command(*seen, "--done", "UKP7654321")).exit_code == 2  # when?
    result = await command(*seen, "--done", "ukp7654321", "--at", "2026-11-24 09:05")
    assert (result.exit_code, "given back by M-Pesa, receipt UKP7654321" in result.stdout) == (0, True), result.output
    assert await office.standing(receipt) == ("reversed", False)


@pytest.mark.usefixtures("people")
async def test_commands_say_what_is_wrong_and_do_nothing(office):
    receipt = await office.customer_pays(500_00, "000000012")
    for arguments, code in (
        (("assign", receipt, "--account", "loan:000000011", "--reason", "x"), 4),
        (("reverse", receipt, "--reason", "x"), 4),
        (("move", receipt, "--account", "000000011", "--reason", "x"), 2),
        (("move", receipt, "--reason", " "), 2),
        (("show", "NOSUCH0000"), 4),
        (("list", "--state", "lost"), 2),
        (("reject", receipt, "--reason", "x"), 4),
    ):
        result = await command(*arguments)
        assert result.exit_code == code, (arguments, result.output)
    assert await office.rows("SELECT id FROM collection_decisions") == []
