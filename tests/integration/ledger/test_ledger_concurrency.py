import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction, open_async_engine
from vault_core.errors import Conflict, DatabaseBusy
from vault_core.ledger.holds import Short
from vault_core.ledger.posting import post, reversal_of
from vault_core.ledger.verification import verify_ledger_async
from vault_core.money import Money

ROOT = Path(__file__).parents[3]

_ONE_POSTING = """
import asyncio, random, sys
from datetime import UTC, datetime
from uuid import UUID
import httpx
from vault_core.clock import SystemClock
from vault_core.database import in_transaction, open_async_engine
from vault_core.identifiers import id_maker
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace

async def main(url, partner):
    engine = open_async_engine(url, pool_size=1)
    clock = SystemClock()
    async with httpx.AsyncClient() as http:
        runtime = Runtime(engine, clock, id_maker(clock), random.Random(), Sealer([("k", bytes(32))]), http, Pace(), "")
        legs = (Leg(AccountRef(None, "bank:settlement"), 700), Leg(AccountRef(UUID(partner), "wallet"), -700))
        posting = Posting(UUID(partner), "topup", "topup:same", "same", datetime(2026, 11, 20, tzinfo=UTC), legs)
        print("ready", flush=True)
        sys.stdin.readline()
        print((await in_transaction(engine, lambda connection: post(connection, runtime, [posting])))[0])
    await engine.dispose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_six_holds_of_1000_on_5000_at_once_give_exactly_five(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 5_000_00))
    answers = await asyncio.gather(*(book.hold(partner_id, (f"charges:{n}", 1_000_00)) for n in range(6)))
    assert sum(isinstance(answer, Short) for (answer,) in answers) == 1
    assert (await book.wallet(partner_id)).available == Money(0)


async def test_a_never_used_account_locks(book, partner_id: UUID, until_someone_waits) -> None:
    """The first two postings of a new partner at once: neither starts from a balance that the other has moved."""
    async with book.runtime.engine.connect() as first:
        await post(first, book.runtime, [book.topup(partner_id, 100, key="topup:1")])
        second = asyncio.create_task(book.post(book.topup(partner_id, 50, key="topup:2")))
        await until_someone_waits()
        assert not second.done()
        await first.commit()
    await second
    assert (await book.wallet(partner_id)).posted == Money(150)
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_a_hold_waits_for_the_topup_that_is_being_posted(book, partner_id: UUID, until_someone_waits) -> None:
    async with book.runtime.engine.connect() as first:
        await post(first, book.runtime, [book.topup(partner_id, 100)])
        held = asyncio.create_task(book.hold(partner_id, ("a", 100)))
        await until_someone_waits()
        await first.commit()
    assert isinstance((await held)[0], UUID)


async def test_two_captures_of_one_hold_at_once_give_one(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    outcomes = await asyncio.gather(
        *(book.capture((hold, book.charge(partner_id, 400, f"charges:{n}"))) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome) for outcome in outcomes if isinstance(outcome, Exception)) == [Conflict]
    assert (await book.wallet(partner_id)).posted == Money(600)


async def test_a_capture_and_a_release_of_one_hold_at_once_give_one(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    outcomes = await asyncio.gather(
        book.capture((hold, book.charge(partner_id, 400, "charges:1"))), book.release([hold]), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert (await book.wallet(partner_id)).held == Money(0)


async def test_two_reversals_at_once_give_one(book, partner_id: UUID) -> None:
    (original,) = await book.post(book.topup(partner_id, 1_000))
    async with book.runtime.engine.connect() as connection:
        undoings = [
            await reversal_of(connection, original, key=f"reversal:{n}", effective_at=book.WHEN, why="") for n in range(2)
        ]
    outcomes = await asyncio.gather(*(book.post(undoing) for undoing in undoings), return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert (await book.wallet(partner_id)).posted == Money(0)


async def test_batches_that_meet_the_same_accounts_and_keys_in_other_orders_all_end(book) -> None:
    partners = [await book.partner(f"p{n}") for n in range(4)]

    async def worker(turn: int) -> None:
        for batch in range(5):
            ordered = partners[turn % 4 :] + partners[: turn % 4]
            await book.post(*(book.topup(partner, 10, key=f"topup:{batch}") for partner in ordered))

    await asyncio.gather(*(worker(turn) for turn in range(8)))
    assert [(await book.wallet(partner)).posted for partner in partners] == [Money(50)] * 4
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_hot_house_accounts_are_not_one_row_for_all_connections(book, partner_id: UUID, database_url: str) -> None:
    other_id = await book.partner("beta")
    others = open_async_engine(database_url)
    async with book.runtime.engine.connect() as first:
        await post(first, book.runtime, [book.topup(partner_id, 100)])
        for _ in range(9):  # some connection among nine has another shard than the first
            async with others.connect() as second:
                await second.execute(text("SET lock_timeout = '100ms'"))
                pids = [(await one.execute(text("SELECT pg_backend_pid() % 8"))).scalar_one() for one in (first, second)]
                if pids[0] != pids[1]:
                    await post(second, book.runtime, [book.topup(other_id, 100)])
                    await second.commit()
                    break
                await second.invalidate()
        else:
            pytest.fail("every connection met the same shard")
    await others.dispose()
    assert (await book.wallet(other_id)).posted == Money(100)


def test_two_processes_posting_the_same_key_give_one(database_url: str, posting_partner: UUID, verified) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_POSTING, database_url, str(posting_partner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert verified() == (1, [])


async def test_a_deadlock_is_tried_anew_and_both_transactions_end(book) -> None:
    """Two transactions that post twice each, in opposite order: one is ended by the database, and in_transaction starts it over."""
    partners = [await book.partner(f"p{n}") for n in range(2)]
    both_have_one = asyncio.Barrier(2)
    tries = 0

    async def twice(first: UUID, second: UUID) -> None:
        met = False

        async def work(connection: AsyncConnection) -> None:
            nonlocal met, tries
            tries += 1
            await post(connection, book.runtime, [book.topup(first, 10, key=f"first:{first}")])
            if not met:
                met = True
                await both_have_one.wait()
            await post(connection, book.runtime, [book.topup(second, 10, key=f"second:{first}")])

        await in_transaction(book.runtime.engine, work)

    await asyncio.gather(twice(*partners), twice(*reversed(partners)))
    assert tries == 3
    assert [(await book.wallet(partner)).posted for partner in partners] == [Money(20)] * 2
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_a_serialisation_failure_is_tried_anew(book, partner_id: UUID) -> None:
    tries = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await connection.execute(text("SELECT count(*) FROM ledger_accounts"))
        if tries == 1:
            await book.post(book.topup(partner_id, 1, key="between"))
        await post(connection, book.runtime, [book.topup(partner_id, 10)])

    await in_transaction(book.runtime.engine, work)
    assert tries == 2
    assert (await book.wallet(partner_id)).posted == Money(11)


async def test_a_conflict_that_never_ends_is_given_up_after_five_tries(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1))
    tries = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await connection.execute(text("SELECT count(*) FROM ledger_accounts"))
        await book.post(book.topup(partner_id, 1, key=f"between:{tries}"))
        await post(connection, book.runtime, [book.topup(partner_id, 10, key="never")])

    with pytest.raises(DatabaseBusy, match="5 times"):
        await in_transaction(book.runtime.engine, work)
    assert tries == 5
    assert (await book.wallet(partner_id)).posted == Money(6)
