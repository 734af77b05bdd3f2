"""Holds that may expire: each ends once, none while an outside outcome may be unknown."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from vault_core.database import in_transaction, open_owner_engine
from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import HoldRequest, Short, expire_holds, keep_holds, place_holds
from vault_core.ledger.verification import verify_ledger_async
from vault_core.money import Money

HOUR = timedelta(hours=1)


@pytest.fixture
async def topped_up(book, partner_id: UUID) -> UUID:
    """A partner with 1,000 cents in its wallet."""
    await book.post(book.topup(partner_id, 1_000))
    return partner_id


async def hold(book, partner_id: UUID, key: str, expires_at: datetime | None, cents: int = 400) -> UUID | Short:
    request = HoldRequest(AccountRef(partner_id, "wallet"), partner_id, key, Money(cents), expires_at)
    return (await in_transaction(book.runtime.engine, lambda connection: place_holds(connection, book.runtime, [request])))[key]


async def keep(book, *hold_ids: UUID) -> None:
    await in_transaction(book.runtime.engine, lambda connection: keep_holds(connection, book.runtime, hold_ids))


async def state(book, hold_id: UUID) -> str:
    async with book.runtime.engine.connect() as connection:
        found: str = (
            await connection.execute(text("SELECT state FROM ledger_holds WHERE id = :id"), {"id": hold_id})
        ).scalar_one()
    return found


async def test_a_hold_expires_at_its_time_and_not_before(book, clock, topped_up: UUID) -> None:
    held = await hold(book, topped_up, "a", clock.now() + HOUR)
    clock.pass_time(hours=1, microseconds=-1)
    assert await expire_holds(book.runtime) == 0
    assert (await book.wallet(topped_up)).available == Money(600)
    clock.pass_time(microseconds=1)
    assert await expire_holds(book.runtime) == 1
    assert await expire_holds(book.runtime) == 0
    assert (await book.wallet(topped_up)).available == Money(1_000)
    assert await state(book, held) == "expired"
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_what_carries_no_expiry_never_expires(book, clock, topped_up: UUID) -> None:
    held = await hold(book, topped_up, "a", None)
    clock.pass_time(days=400)
    assert await expire_holds(book.runtime) == 0
    assert await state(book, held) == "held"


async def test_an_expired_hold_is_neither_captured_nor_released_nor_kept(book, clock, topped_up: UUID) -> None:
    held = await hold(book, topped_up, "a", clock.now() + HOUR)
    clock.pass_time(hours=1)
    await expire_holds(book.runtime)
    with pytest.raises(Conflict, match="is expired already"):
        await book.capture((held, book.charge(topped_up, 400, "a")))
    with pytest.raises(Conflict, match="is expired already"):
        await book.release([held])
    with pytest.raises(Conflict, match="is expired already"):
        await keep(book, held)
    wallet = await book.wallet(topped_up)
    assert (wallet.posted, wallet.held) == (Money(1_000), Money(0))


async def test_an_expired_hold_frees_its_key(book, clock, topped_up: UUID) -> None:
    first = await hold(book, topped_up, "a", clock.now() + HOUR)
    clock.pass_time(hours=1)
    await expire_holds(book.runtime)
    second = await hold(book, topped_up, "a", None, cents=1_000)
    assert isinstance(second, UUID)
    assert second != first


async def test_a_hold_past_its_time_is_held_until_it_is_expired(book, clock, topped_up: UUID) -> None:
    taken = await hold(book, topped_up, "a", clock.now() + HOUR)
    freed = await hold(book, topped_up, "b", clock.now() + HOUR, cents=100)
    clock.pass_time(hours=2)
    await book.capture((taken, book.charge(topped_up, 150, "a")))
    assert await book.release([freed]) == 1
    assert await expire_holds(book.runtime) == 0
    wallet = await book.wallet(topped_up)
    assert (wallet.posted, wallet.held) == (Money(850), Money(0))


async def test_a_kept_hold_never_expires_and_is_captured_later(book, clock, topped_up: UUID) -> None:
    held = await hold(book, topped_up, "a", clock.now() + HOUR)
    await keep(book, held)
    await keep(book, held)
    clock.pass_time(days=400)
    assert await expire_holds(book.runtime) == 0
    await book.capture((held, book.charge(topped_up, 400, "a")))
    assert (await book.wallet(topped_up)).posted == Money(600)


async def test_a_hold_that_ended_or_never_was_is_not_kept_and_with_it_no_other(book, clock, topped_up: UUID) -> None:
    ended, other = [await hold(book, topped_up, key, clock.now() + HOUR, cents=100) for key in ("a", "b")]
    await book.release([ended])
    for wrong in (ended, uuid4()):
        with pytest.raises(Conflict, match="cannot be kept"):
            await keep(book, other, wrong)
    clock.pass_time(hours=1)
    assert await expire_holds(book.runtime) == 1


async def test_a_repeat_gives_the_hold_back_with_the_expiry_it_was_placed_with(book, clock, topped_up: UUID) -> None:
    held = await hold(book, topped_up, "a", clock.now() + HOUR)
    assert await hold(book, topped_up, "a", None) == held
    clock.pass_time(hours=1)
    assert await expire_holds(book.runtime) == 1


async def test_an_expiry_lies_after_now_and_has_a_time_zone(book, clock, topped_up: UUID) -> None:
    with pytest.raises(InvalidInput, match="expires after it is placed"):
        await hold(book, topped_up, "a", clock.now())
    with pytest.raises(InvalidInput, match="no time zone"):
        await hold(book, topped_up, "a", clock.now().replace(tzinfo=None))
    assert (await book.wallet(topped_up)).held == Money(0)


async def test_many_expire_in_batches(book, clock, topped_up: UUID) -> None:
    for n in range(5):
        await hold(book, topped_up, f"h{n}", clock.now() + HOUR, cents=10)
    kept = await hold(book, topped_up, "later", clock.now() + 2 * HOUR, cents=10)
    clock.pass_time(hours=1)
    assert await expire_holds(book.runtime, most=2) == 5
    assert await state(book, kept) == "held"


@pytest.mark.parametrize("other", ["capture", "release", "keep"])
async def test_a_hold_that_expires_and_is_acted_on_at_once_ends_once(
    book, clock, topped_up: UUID, until_someone_waits, other: str
) -> None:
    held = await hold(book, topped_up, "a", clock.now() + HOUR)
    clock.pass_time(hours=1)
    acts = {
        "capture": lambda: book.capture((held, book.charge(topped_up, 400, "a"))),
        "release": lambda: book.release([held]),
        "keep": lambda: keep(book, held),
    }
    async with book.runtime.engine.connect() as first:  # both wait for the wallet, and go on in no set order
        await first.execute(text("SELECT ledger_keep(CAST(:none AS uuid[]))"), {"none": [held]})
        expiring = asyncio.create_task(expire_holds(book.runtime))
        acting = asyncio.create_task(acts[other]())
        await until_someone_waits()
        await first.rollback()
    expired, acted = await asyncio.gather(expiring, acting, return_exceptions=True)
    assert (expired == 1) == isinstance(acted, Conflict)
    assert (expired == 0) == (not isinstance(acted, Exception))
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_expiries_at_once_end_each_hold_once(book, clock, topped_up: UUID) -> None:
    for n in range(20):
        await hold(book, topped_up, f"h{n}", clock.now() + HOUR, cents=10)
    clock.pass_time(hours=1)
    ended = await asyncio.gather(*(expire_holds(book.runtime, most=3) for _ in range(4)))
    assert sum(ended) == 20
    assert (await book.wallet(topped_up)).held == Money(0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_holds SET state = 'held', resolved_at = NULL",
        "UPDATE ledger_holds SET state = 'expired', expires_at = placed_at + interval '1 us'",
        "DELETE FROM ledger_holds",
        "DELETE FROM ledger_accounts",
        "TRUNCATE ledger_holds CASCADE",
    ],
)
async def test_not_even_the_owner_ends_a_hold_twice_or_loses_one(book, topped_up: UUID, owner_url: str, statement: str) -> None:
    await book.release([await hold(book, topped_up, "a", None)])
    owner = open_owner_engine(owner_url)
    with owner.connect() as connection, pytest.raises(DBAPIError, match=r"is released already|append-only"):
        connection.execute(text(statement))
    owner.dispose()


async def test_not_even_the_owner_expires_what_carries_no_expiry(book, topped_up: UUID, owner_url: str) -> None:
    await hold(book, topped_up, "a", None)
    owner = open_owner_engine(owner_url)
    with owner.connect() as connection, pytest.raises(DBAPIError, match="ledger_holds_expired_by_their_time"):
        connection.execute(text("UPDATE ledger_holds SET state = 'expired', resolved_at = now()"))
    owner.dispose()
