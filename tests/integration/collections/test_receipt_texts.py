from dataclasses import replace

import pytest

from vault_core.clients.mifos import MifosClient
from vault_core.collections.proof import collections_findings
from vault_core.collections.resuming import resume_collections
from vault_core.errors import NotUnderstood
from vault_core.money import Money
from vault_core.settings import Pace


async def test_a_receipt_the_gateway_refuses_once_is_sent_later_and_charged_once(umoja):
    await umoja.control("faults", {"sms_refused": {"rate": 1.0, "per_unit": 1}})
    await umoja.pay("R1", 100_00, "000000011")
    await umoja.work()
    await umoja.work("message.send")
    assert (await umoja.texts(), await umoja.balance("wallet")) == ([], Money(0))

    umoja.runtime.clock.pass_time(hours=1)
    await umoja.work("message.send")

    assert len(await umoja.texts()) == 1
    assert await umoja.balance("wallet") == Money(-80)
    assert await umoja.cases() == []


async def test_a_receipt_whose_answer_is_lost_is_not_sent_again_and_not_charged_until_it_is_resolved(umoja):
    await umoja.control("settings", {"hang_ms": 50})
    await umoja.control("faults", {"sms_timed_out_after_sending": {"rate": 1.0, "per_unit": 1}})
    await umoja.pay("R1", 100_00, "000000011")
    await umoja.work()
    for _ in range(3):
        await umoja.work("message.send")
        umoja.runtime.clock.pass_time(hours=1)

    assert len(await umoja.texts()) == 1, "the client has exactly one text"
    assert await umoja.balance("wallet") == Money(0)
    assert [(one.kind, one.amount) for one in await umoja.cases()] == [("sms_unknown", Money(80))]


async def test_wrong_sms_credentials_hold_the_texts_back_and_say_so_once(umoja):
    from sqlalchemy import text

    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET sms_user = 'nobody'"))
    umoja.connections.forget(umoja.partner.id)
    for n in range(3):
        await umoja.pay(f"R{n}", 100_00, "000000011")
    await umoja.work()
    await umoja.work("message.send")

    assert [one.kind for one in await umoja.cases()] == ["sms_gateway_refuses"]
    assert [row.state for row in await umoja.rows("SELECT state FROM messages")] == ["queued"] * 3
    assert await umoja.balance("wallet") == Money(0)


@pytest.fixture
def balances_unread(monkeypatch):
    """Mifos X posts, and what it shows of a loan afterwards cannot be read."""
    loan = MifosClient.loan

    async def unread(client, loan_id, *, history=True):
        if not history:
            raise NotUnderstood("the loan has no summary", code="summary")
        return await loan(client, loan_id, history=history)

    monkeypatch.setattr(MifosClient, "loan", unread)


@pytest.mark.usefixtures("balances_unread")
async def test_a_receipt_whose_balance_cannot_be_read_is_told_without_it_in_the_last_try_and_not_before(umoja):
    umoja.runtime = replace(umoja.runtime, pace=Pace(outbox_max_tries=2))
    await umoja.pay("R1", 100_00, "000000011")
    await umoja.work()
    assert ((await umoja.collection("R1")).state, await umoja.rows("SELECT id FROM messages")) == ("posted", [])
    umoja.runtime.clock.pass_time(hours=1)
    await umoja.work()
    await umoja.work("message.send")
    assert await umoja.texts() == [
        ("254712000001", "Received KES 100.00 for loan 000000011. Receipt R1. Thank you. Umoja Credit")
    ]
    row = await umoja.collection("R1")
    assert (row.state, row.new_balance_cents) == ("posted", None)
    assert "without balance: posted; no receipt yet" not in row.reason
    assert "without balance: NotUnderstood" in row.reason
    assert [one.state for one in await umoja.rows("SELECT state FROM outbox WHERE kind = 'collection.post'")] == ["done"]
    assert await umoja.cases() == []


async def test_a_posted_payment_of_which_nobody_could_be_told_is_a_case_that_taking_it_up_ends(umoja, monkeypatch):
    umoja.runtime = replace(umoja.runtime, pace=Pace(outbox_max_tries=1))

    async def unread(*_args, **_kwargs):
        raise NotUnderstood("the client has no name", code="client")

    await umoja.pay("R1", 100_00, "000000011")
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "client", unread)
        await umoja.work()
    assert (await umoja.collection("R1")).state == "posted"
    [case] = await umoja.cases()
    assert (case.kind, case.amount) == ("call_given_up", None)
    assert "the client has no name" in case.evidence["cause"]
    assert await collections_findings(umoja.runtime.engine) == []

    assert await resume_collections(umoja.runtime, "umoja", actor="ops:jane", reason="mended") == ["R1"]
    await umoja.work()
    await umoja.work("message.send")
    assert await umoja.cases() == []
    [(_, said)] = await umoja.texts()
    assert "New balance KES" in said
