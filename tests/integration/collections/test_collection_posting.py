import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from vault_core.clock import business_day
from vault_core.collections import posting
from vault_core.collections.matching import Unmatched
from vault_core.collections.posting import post_collections
from vault_core.collections.proof import collections_findings, prove_collections
from vault_core.money import Money
from vault_core.outbox.calls import claim_calls
from vault_core.settings import Pace


async def test_a_repayment_is_posted_booked_and_receipted_with_the_new_balance(umoja):
    await umoja.pay("R1", 1_500_50, " ln-1001 ")
    await umoja.work()
    await umoja.work("message.send")

    row = await umoja.collection("R1")
    assert (row.state, row.account_kind, row.account_id, row.account_no) == ("posted", "loan", 11, "000000011")
    assert await umoja.posted_to("loans", 11) == [("R1", 1_500_50)]
    assert (await umoja.balance("loan_book"), await umoja.balance("collected_unposted")) == (Money(-1_500_50), Money(0))
    outstanding = (await umoja.truth())["mifos"]["alpha"]["loans"]["11"]["outstanding_cents"]
    assert row.new_balance_cents == outstanding
    assert await umoja.texts() == [
        (
            "254712000001",
            f"Received KES 1,500.50 for loan 000000011. Receipt R1. New balance {Money(outstanding)}. Thank you. Umoja Credit",
        )
    ]
    assert await umoja.balance("wallet") == Money(-80)
    assert await umoja.cases() == []


async def test_a_deposit_is_posted_to_the_savings_account_with_its_new_balance(umoja):
    await umoja.pay("R1", 300_00, "000000022")
    await umoja.pay("R2", 200_00, "000000022")
    await umoja.work()
    await umoja.work("message.send")

    assert await umoja.posted_to("savings", 22) == [("R1", 300_00), ("R2", 200_00)]
    assert await umoja.balance("savings_book") == Money(500_00)
    assert sorted(text.split("New balance ")[1].split(".")[0] for _, text in await umoja.texts()) == ["KES 300", "KES 500"]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nobody", "no loan or savings account has this number or external id"),
        ("%", "the reference is empty or holds signs that no account number has"),
        ("", "the reference is empty or holds signs that no account number has"),
        ("000000013", "loan 000000013 is approved but not paid out or opened yet"),
        ("000000021", "the reference fits more than one open account: loan 000000021, savings 000000021"),
    ],
)
async def test_a_payment_without_one_sure_account_goes_to_suspense_with_an_open_case(umoja, reference, reason):
    await umoja.pay("R1", 750_00, reference)
    await umoja.work()

    row = await umoja.collection("R1")
    assert (row.state, row.reason) == ("suspense", reason)
    [case] = await umoja.cases()
    assert (case.kind, case.subject, case.amount) == ("unmatched_payment", "600100 R1", Money(750_00))
    assert case.evidence["reason"] == reason
    assert (await umoja.balance("suspense"), await umoja.balance("collected_unposted")) == (Money(750_00), Money(0))
    assert await collections_findings(umoja.runtime.engine) == []
    assert [row.state for row in await umoja.rows("SELECT state FROM outbox")] == ["done"]


async def test_the_evidence_of_a_case_does_not_show_what_was_typed(umoja):
    await umoja.pay("R1", 750_00, "0712345678")
    await umoja.work()

    assert "0712345678" not in str((await umoja.cases())[0].evidence)


@pytest.mark.parametrize(
    "fault",
    [
        "mifos_timeout_after_posting",
        "mifos_500_after_posting",
        "mifos_425",
        "mifos_425_for_ever",
        "mifos_409_lock",
        "mifos_409_conflict",
        "html_answer",
    ],
)
@pytest.mark.parametrize(("kind", "account_id"), [("loans", 11), ("savings", 22)])
async def test_a_payment_whose_posting_goes_wrong_once_is_posted_exactly_once(umoja, fault, kind, account_id):
    await umoja.control("settings", {"hang_ms": 50, "in_process_ms": 50})
    await umoja.control("faults", {fault: {"rate": 1.0, "scope": "alpha", "per_unit": 1}})
    await umoja.pay("R1", 500_00, f"{account_id:09d}")
    for _ in range(8):
        await umoja.work()
        umoja.runtime.clock.pass_time(minutes=10)

    assert await umoja.posted_to(kind, account_id) == [("R1", 500_00)]
    assert (await umoja.collection("R1")).state == "posted"
    assert await umoja.balance("collected_unposted") == Money(0)
    assert len(await umoja.rows("SELECT id FROM messages")) == 1
    assert await umoja.cases() == []


async def test_two_workers_with_the_same_calls_post_once(umoja):
    for n in range(8):
        await umoja.pay(f"R{n}", 10_00, ["000000011", "000000012", "000000022"][n % 3])
    await asyncio.gather(umoja.work(), umoja.work())
    for _ in range(3):
        umoja.runtime.clock.pass_time(minutes=10)
        await asyncio.gather(umoja.work(), umoja.work())

    posted = [*await umoja.posted_to("loans", 11), *await umoja.posted_to("loans", 12), *await umoja.posted_to("savings", 22)]
    assert sorted(posted) == [(f"R{n}", 10_00) for n in range(8)]
    assert len(await umoja.rows("SELECT id FROM messages")) == 8


async def test_payments_to_one_account_in_one_batch_are_posted_one_after_the_other(umoja):
    for n in range(4):
        await umoja.pay(f"R{n}", 10_00, "000000012")
    await umoja.work()

    assert [row.state for row in await umoja.rows("SELECT state FROM collections")] == ["posted"] * 4
    balances = [row.new_balance_cents for row in await umoja.rows("SELECT new_balance_cents FROM collections ORDER BY receipt")]
    assert balances == sorted(balances, reverse=True)
    assert len(set(balances)) == 4


async def test_a_mifos_that_refuses_our_login_is_asked_again_and_after_the_last_try_a_person_takes_over(umoja):
    await umoja.pay("R1", 500_00, "000000011")
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET mifos_user = 'nobody'"))
    umoja.connections.forget(umoja.partner.id)
    runtime = replace(umoja.runtime, pace=Pace(outbox_max_tries=2))
    umoja.runtime = runtime
    await umoja.work()
    assert (await umoja.collection("R1")).state == "matching"
    runtime.clock.pass_time(hours=1)
    await umoja.work()

    assert (await umoja.collection("R1")).state == "needs_review"
    assert [(one.kind, one.amount) for one in await umoja.cases()] == [("collection_not_posted", Money(500_00))]
    assert await umoja.balance("collected_unposted") == Money(500_00)
    assert await collections_findings(runtime.engine) == []


async def test_a_client_without_a_phone_gets_no_text_and_the_collection_says_so(umoja):
    await umoja.pay("R1", 500_00, "000000014")
    await umoja.work()

    row = await umoja.collection("R1")
    assert (row.state, row.reason) == ("posted", "no receipt SMS: client 3 has no Kenyan mobile number in Mifos X")
    assert await umoja.rows("SELECT id FROM messages") == []


async def test_a_process_that_dies_between_posting_and_booking_books_once_when_it_is_back(umoja, monkeypatch):
    await umoja.pay("R1", 500_00, "000000011")

    async def dies(*_args):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("vault_core.collections.posting.book_posted", dies)
        with pytest.raises(RuntimeError):
            await umoja.work()
    assert await umoja.balance("collected_unposted") == Money(500_00)
    umoja.runtime.clock.pass_time(minutes=10)
    await umoja.work()

    assert await umoja.posted_to("loans", 11) == [("R1", 500_00)]
    assert (await umoja.collection("R1")).state == "posted"
    assert await umoja.balance("collected_unposted") == Money(0)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_and_repetition_of_the_same_payments_books_each_once(umoja, seed):
    chance = random.Random(seed)
    references = ["000000011", "nobody", "000000022", "LN-1001", "000000013", "000000021", "?"]
    told = {f"R{n}": (100_00 + n, reference) for n, reference in enumerate(references)}
    bodies = [umoja.payment(receipt, cents, reference) for receipt, (cents, reference) in told.items()]
    stream = [body for body in bodies for _ in range(chance.randint(1, 3))]
    chance.shuffle(stream)
    while stream:
        size = chance.randint(1, 5)
        await umoja.confirm(*stream[:size])
        del stream[:size]
        if chance.random() < 0.5:
            await umoja.work()
        assert await collections_findings(umoja.runtime.engine) == []
    await umoja.work()

    assert await umoja.balance("c2b_float") == Money(sum(cents for cents, _ in told.values()))
    async with umoja.runtime.engine.connect() as connection:
        [proof] = await prove_collections(connection)
    assert proof.holds
    assert proof.suspense == Money(sum(told[f"R{n}"][0] for n in (1, 4, 5, 6)))
    assert proof.unposted == Money(0)
    assert {receipt for receipt, _ in await umoja.posted_to("loans", 11)} == {"R0", "R3"}


async def test_a_call_for_a_payment_that_is_with_a_person_is_over(umoja):
    await umoja.pay("R1", 500_00, "nobody")
    await umoja.work()
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET state = 'pending'"))
    [row] = await umoja.rows("SELECT id FROM outbox")
    calls = await claim_calls(umoja.runtime, [row.id])
    await post_collections(umoja.runtime, umoja.connections, calls)

    assert [row.state for row in await umoja.rows("SELECT state FROM outbox")] == ["done"]
    assert await umoja.balance("suspense") == Money(500_00)


async def test_a_payment_that_another_worker_is_posting_does_not_go_to_suspense(umoja, monkeypatch):
    look_up = posting.look_up

    async def slow(_runtime, _connections, _payments):
        # While this look-up is under way the lease runs out, and another worker matches and posts; its answer is lost.
        monkeypatch.setattr(posting, "look_up", look_up)
        umoja.runtime.clock.pass_time(minutes=10)
        await umoja.control("faults", {"mifos_500_after_posting": {"rate": 1.0, "scope": "alpha", "per_unit": 1}})
        await umoja.work()
        assert (await umoja.collection("R1")).state == "posting"
        return [Unmatched("nothing was found")]

    await umoja.pay("R1", 500_00, "000000011")
    monkeypatch.setattr(posting, "look_up", slow)
    await umoja.work()
    umoja.runtime.clock.pass_time(minutes=10)
    await umoja.work()
    assert (await umoja.collection("R1")).state == "posted"
    assert await umoja.posted_to("loans", 11) == [("R1", 500_00)]
    assert (await umoja.balance("suspense"), await umoja.cases()) == (Money(0), [])


@pytest.mark.parametrize(("kind", "reference", "account_id"), [("loans", "000000031", 31), ("savings", "000000022", 22)])
async def test_a_payment_is_posted_under_the_tenants_business_date_where_that_lags_and_else_under_its_own_day(
    umoja, kind, reference, account_id
):
    today = business_day(umoja.runtime.clock.now())
    yesterday = today - timedelta(days=1)
    loan = {"id": 31, "client": 1, "product": 1, "principal_cents": 5_000_00, "status": 300, "approved_on": yesterday.isoformat()}
    await umoja.control("setup", {"mifos": {"alpha": {"loans": [loan], "business_date": yesterday.isoformat()}}})
    await umoja.pay("R1", 100_00, reference)
    await umoja.work()
    umoja.runtime.clock.pass_time(days=1)
    umoja.connections.forget(umoja.partner.id)
    body = umoja.payment("R2", 200_00, reference)
    await umoja.control("setup", {"mifos": {"alpha": {"business_date": (today + timedelta(days=2)).isoformat()}}})
    umoja.runtime.clock.pass_time(days=1)
    await umoja.confirm(body)
    await umoja.work()

    made = (await umoja.truth())["mifos"]["alpha"][kind][str(account_id)]["transactions"]
    days = {one["receipt"]: one["on"] for one in made if one["receipt"]}
    assert days == {"R1": yesterday.isoformat(), "R2": (today + timedelta(days=1)).isoformat()}
