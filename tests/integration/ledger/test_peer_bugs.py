"""What users of other ledgers broke on, tried on ours. Each test names the report it comes from."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.errors import Conflict, DatabaseBusy
from vault_core.ledger.balances import trial_balance
from vault_core.ledger.closing import close_period
from vault_core.ledger.holds import Short
from vault_core.ledger.posting import post
from vault_core.ledger.verification import verify_ledger_async
from vault_core.money import Money


@pytest.mark.parametrize("at_once", [6, 1], ids=["in one batch", "one by one"])
async def test_blnk_181_six_holds_of_1000_on_5000_are_not_all_given(book, partner_id: UUID, at_once: int) -> None:
    """blnk#181: holds were not counted against what is available."""
    await book.post(book.topup(partner_id, 5_000_00))
    wanted = [(f"hold:{n}", 1_000_00) for n in range(6)]
    batches = [wanted[n : n + at_once] for n in range(0, 6, at_once)]
    answers = [answer for batch in batches for answer in await book.hold(partner_id, *batch)]
    assert [isinstance(answer, Short) for answer in answers] == [False] * 5 + [True]
    assert answers[5] == Short(available=Money(0), needed=Money(1_000_00))


async def test_formance_364_postings_at_once_never_share_an_id_or_a_version(book, partner_id: UUID) -> None:
    """formance/ledger#364: duplicate ids under concurrency."""
    batches = await asyncio.gather(
        *(book.post(book.topup(partner_id, 1, f"a{n}"), book.topup(partner_id, 1, f"b{n}")) for n in range(20))
    )
    ids = [transaction_id for batch in batches for transaction_id in batch]
    assert len(set(ids)) == len(ids) == 40
    async with book.runtime.engine.connect() as connection:
        versions = await connection.execute(
            text(
                "SELECT array_agg(e.account_version ORDER BY e.account_version) FROM ledger_entries e"
                " JOIN ledger_accounts a ON a.id = e.account_id WHERE a.partner_id = :partner"
            ),
            {"partner": partner_id},
        )
        assert versions.scalar_one() == list(range(1, 41))


async def test_formance_770_acts_on_the_same_accounts_in_opposed_orders_do_not_deadlock(book) -> None:
    """formance/ledger#770: deadlocks. Counted by the server, because a retry would hide them."""
    partners = [await book.partner(name) for name in ("alpha", "beta", "gamma")]
    await book.post(*(book.topup(partner, 100_000) for partner in partners))
    before = await deadlocks(book)

    async def act(turn: int) -> None:
        order = partners if turn % 2 else partners[::-1]
        holds = [(await book.hold(partner, (f"h{turn}", 10)))[0] for partner in order]
        await book.post(*(book.charge(partner, 1, f"c{turn}") for partner in order))
        if turn % 3:
            await book.release(holds)
        else:
            pairs = zip(holds, order, strict=True)
            await book.capture(*((hold, book.charge(partner, 5, f"k{turn}")) for hold, partner in pairs))

    await asyncio.gather(*(act(turn) for turn in range(12)))
    assert await deadlocks(book) == before
    assert await verify_ledger_async(book.runtime.engine) == []


async def deadlocks(book) -> int:
    async with book.runtime.engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        query = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return (await connection.execute(query)).scalar_one()


async def test_formance_764_readers_wait_for_no_posting(book, partner_id: UUID) -> None:
    """formance/ledger#764: what is locked, and for whom."""
    await book.post(book.topup(partner_id, 100))
    async with book.runtime.engine.connect() as writer:
        await post(writer, book.runtime, [book.topup(partner_id, 50, key="topup:2")])
        async with book.runtime.engine.connect() as reader:
            await reader.execute(text("SET lock_timeout = '50ms'"))
            assert sum(line.debit.cents for line in await trial_balance(reader)) == 100
        assert (await book.wallet(partner_id)).posted == Money(100)
        await writer.commit()
    assert (await book.wallet(partner_id)).posted == Money(150)


async def test_stack_1597_a_wallet_goes_below_zero_by_a_posting_and_never_by_a_hold(book, partner_id: UUID) -> None:
    """formancehq/stack#1597: how negative is allowed. What has happened is posted whatever is left; what is yet to happen is held first."""
    await book.post(book.topup(partner_id, 100))
    await book.post(book.charge(partner_id, 130, "sms:1"))
    assert (await book.wallet(partner_id)).available == Money(-30)
    assert await book.hold(partner_id, ("payout", 1)) == [Short(available=Money(-30), needed=Money(1))]
    await book.post(book.topup(partner_id, 31, key="topup:2"))
    assert isinstance((await book.hold(partner_id, ("payout", 1)))[0], UUID)


async def test_formance_1896_a_key_is_a_partners_own_and_is_kept_for_ever(book, partner_id: UUID, clock) -> None:
    """formance/ledger#1896: scope and lifetime of idempotency keys must be known; ours stand in docs/ledger.md."""
    other = await book.partner("beta")
    first = book.topup(partner_id, 100, key="same")
    (mine,), (theirs,) = await book.post(first), await book.post(book.topup(other, 700, key="same"))
    assert mine != theirs
    await close_period(book.runtime, clock.now() - timedelta(days=1), "test")
    clock.pass_time(days=3 * 366)
    assert await book.post(first) == [mine]
    with pytest.raises(Conflict):
        await book.post(replace(first, reference="another"))


async def test_vendo_1297_two_bodies_under_one_key_at_once_are_not_both_taken(book, partner_id: UUID) -> None:
    """runvendo/vendo#1297: a key that is checked and then recorded lets both commit; ours is reserved first."""
    bodies = [book.topup(partner_id, cents, key="same") for cents in (100, 200, 300, 400)]
    outcomes = await asyncio.gather(*(book.post(body) for body in bodies), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Conflict) == 3
    (taken,) = [body for body, outcome in zip(bodies, outcomes, strict=True) if isinstance(outcome, list)]
    assert (await book.wallet(partner_id)).posted == Money(taken.legs[0].amount_cents)


async def test_mojaloop_1190_a_deadlock_is_tried_again_and_both_come_through(book) -> None:
    """mojaloop/project#1190: retry deadlocks and serialisation failures, and only so often."""
    partners = [await book.partner(name) for name in ("alpha", "beta")]
    tries = [0]
    both_hold_one = asyncio.Barrier(2)

    async def worker(order: list[UUID]) -> None:
        met = [False]

        async def work(connection: AsyncConnection) -> None:
            tries[0] += 1
            await rename(connection, order[0])
            if not met[0]:
                met[0] = True
                await both_hold_one.wait()
            await rename(connection, order[1])

        await in_transaction(book.runtime.engine, work)

    await asyncio.gather(worker(partners), worker(partners[::-1]))
    assert tries[0] == 3


async def rename(connection: AsyncConnection, partner_id: UUID) -> None:
    await connection.execute(text("UPDATE partners SET display_name = display_name || '!' WHERE id = :id"), {"id": partner_id})


@pytest.mark.parametrize("state", ["40001", "40P01"], ids=["serialisation", "deadlock"])
async def test_mojaloop_1190_what_never_comes_through_is_given_up_after_five_tries(book, state: str) -> None:
    tries = [0]

    async def work(connection: AsyncConnection) -> None:
        tries[0] += 1
        await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{state}'; END $$"))

    with pytest.raises(DatabaseBusy):
        await in_transaction(book.runtime.engine, work)
    assert tries[0] == 5


async def test_mojaloop_1190_what_another_try_cannot_mend_is_not_tried_again(book) -> None:
    tries = [0]

    async def work(connection: AsyncConnection) -> None:
        tries[0] += 1
        await connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(DBAPIError, match="division by zero"):
        await in_transaction(book.runtime.engine, work)
    assert tries[0] == 1
