"""Closed periods: what happened there and is told of late is carried forward, what a person dates there is refused."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from vault_core.database import open_owner_engine
from vault_core.errors import Conflict, InvalidInput, PeriodClosed
from vault_core.ledger.as_of import trial_balance_before
from vault_core.ledger.closing import close_period, list_closings
from vault_core.ledger.posting import Posting, post, reversal_of
from vault_core.ledger.verification import verify_ledger_async
from vault_core.money import Money

DAY = timedelta(days=1)
_TIMES = text("SELECT effective_at, carried_from FROM ledger_transactions WHERE key = :key")
_INSERT = """
    INSERT INTO {table} (id, kind, reference, key, effective_at, booked_at, written_by)
    SELECT CAST(overlay(id::text PLACING '000000000000' FROM 25) AS uuid), 'x', 'r', 'k', '2026-11-01', booked_at, 1 FROM ledger_transactions LIMIT 1
"""


def early(book, posting: Posting, days: int = 3) -> Posting:
    return replace(posting, effective_at=book.WHEN - days * DAY)


async def times(book, key: str) -> tuple[datetime, datetime | None]:
    async with book.runtime.engine.connect() as connection:
        row = (await connection.execute(_TIMES, {"key": key})).one()
    return row.effective_at, row.carried_from


async def test_an_event_of_a_closed_period_is_booked_at_the_first_open_instant_and_keeps_its_time(book, partner_id: UUID) -> None:
    await close_period(book.runtime, book.WHEN - DAY, "finance:a")
    await book.post(early(book, book.topup(partner_id, 100)), book.topup(partner_id, 50, key="topup:2"))
    assert await times(book, "topup:1") == (book.WHEN - DAY, book.WHEN - 3 * DAY)
    assert await times(book, "topup:2") == (book.WHEN, None)
    assert (await book.wallet(partner_id)).posted == Money(150)
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_an_event_at_the_very_instant_of_the_closing_is_in_the_open_period(book, partner_id: UUID) -> None:
    await close_period(book.runtime, book.WHEN, "finance:a")
    await book.post(book.topup(partner_id, 100))
    assert await times(book, "topup:1") == (book.WHEN, None)


async def test_a_repeat_is_a_repeat_whatever_was_closed_meanwhile(book, partner_id: UUID) -> None:
    posting = replace(early(book, book.topup(partner_id, 100)), carried=False)
    first = await book.post(posting)
    await close_period(book.runtime, book.WHEN, "finance:a")
    assert await book.post(posting) == first
    late = early(book, book.topup(partner_id, 7, key="topup:2"))
    carried = await book.post(late)
    assert await book.post(late, replace(late, carried=False)) == carried * 2
    with pytest.raises(Conflict, match="another posting"):
        await book.post(replace(late, effective_at=book.WHEN))
    assert (await book.wallet(partner_id)).posted == Money(107)


async def test_what_a_person_dates_in_a_closed_period_is_refused_and_with_it_its_batch(book, partner_id: UUID) -> None:
    await close_period(book.runtime, book.WHEN, "finance:a")
    strict = replace(early(book, book.topup(partner_id, 100, key="topup:2")), carried=False)
    with pytest.raises(PeriodClosed, match=r"topup:2 is effective at 2026-11-17.*before 2026-11-20.*is closed"):
        await book.post(book.topup(partner_id, 50), strict)
    assert (await book.wallet(partner_id)).posted == Money(0)
    await book.post(replace(strict, effective_at=book.WHEN))
    assert (await book.wallet(partner_id)).posted == Money(100)


async def test_a_reversal_dated_in_a_closed_period_is_refused(book, partner_id: UUID) -> None:
    (original,) = await book.post(early(book, book.topup(partner_id, 100)))
    await close_period(book.runtime, book.WHEN, "finance:a")
    async with book.runtime.engine.connect() as connection:
        undoing = await reversal_of(connection, original, key="reversal:1", effective_at=book.WHEN - DAY, why="typed twice")
    with pytest.raises(PeriodClosed):
        await book.post(undoing)
    await book.post(replace(undoing, effective_at=book.WHEN))
    assert (await book.wallet(partner_id)).posted == Money(0)


async def test_a_closing_keeps_the_trial_balance_of_its_instant_and_the_next_builds_on_it(book, partner_id: UUID) -> None:
    other_id = await book.partner("beta")
    await book.post(early(book, book.topup(partner_id, 1_000), 9), early(book, book.topup(other_id, 70), 9))
    await book.post(early(book, book.charge(partner_id, 30, "charges:1"), 5), book.topup(partner_id, 4, key="later"))
    first = await close_period(book.runtime, book.WHEN - 7 * DAY, "finance:a")
    second = await close_period(book.runtime, book.WHEN - DAY, "finance:b")
    assert [(c.number, c.transactions, c.debits) for c in (first, second)] == [(1, 2, Money(1_070)), (2, 1, Money(1_070))]
    async with book.runtime.engine.connect() as connection:
        assert await list_closings(connection) == [first, second]
        lines = await trial_balance_before(connection, second.closed_before, "effective", now=book.runtime.clock.now())
        balances = (
            await connection.execute(
                text(
                    "SELECT closing, array_agg(balance_cents ORDER BY 1) FROM ledger_closing_balances GROUP BY closing ORDER BY closing"
                )
            )
        ).all()
    assert sum(line.debit.cents for line in lines) == 1_070
    assert [(closing, sorted(cents)) for closing, cents in balances] == [(1, [-1_000, -70, 1_070]), (2, [-970, -70, -30, 1_070])]


async def test_a_closing_counts_what_was_carried_into_its_period_where_it_was_booked(book, partner_id: UUID) -> None:
    await close_period(book.runtime, book.WHEN - 7 * DAY, "finance:a")
    await book.post(early(book, book.topup(partner_id, 100), 9))
    closing = await close_period(book.runtime, book.WHEN - 5 * DAY, "finance:a")
    assert (closing.transactions, closing.debits) == (1, Money(100))


@pytest.mark.parametrize(
    ("before", "error", "words"),
    [
        (lambda book: book.WHEN, Conflict, "is closed already"),
        (lambda book: book.WHEN - DAY, Conflict, "is closed already"),
        (lambda book: book.runtime.clock.now() + timedelta(microseconds=1), InvalidInput, "has not ended"),
        (lambda _: datetime(2026, 11, 21), InvalidInput, "no time zone"),  # noqa: DTZ001
    ],
    ids=["the same instant", "an earlier one", "the future", "no time zone"],
)
async def test_a_period_is_not_closed(book, before: Callable[..., datetime], error: type[Exception], words: str) -> None:
    await close_period(book.runtime, book.WHEN, "finance:a")
    with pytest.raises(error, match=words):
        await close_period(book.runtime, before(book), "finance:a")
    async with book.runtime.engine.connect() as connection:
        assert len(await list_closings(connection)) == 1


async def test_a_clock_that_runs_ahead_closes_no_future(book, clock) -> None:
    """It could not be opened again, and everything that happens until then would be carried there."""
    clock.pass_time(days=400)
    with pytest.raises(InvalidInput, match="has not ended"):
        await close_period(book.runtime, clock.now() - DAY, "finance:a")


async def test_a_closing_is_in_the_audit_trail(book) -> None:
    await close_period(book.runtime, book.WHEN, "finance:a")
    async with book.runtime.engine.connect() as connection:
        row = (await connection.execute(text("SELECT actor, subject, after FROM audit_log WHERE act = 'ledger.closed'"))).one()
    assert (row.actor, row.subject, row.after["closed_before"]) == ("finance:a", "ledger closing 1", book.WHEN.isoformat())


@pytest.mark.parametrize("table", ["ledger_transactions", "{partition}"])
async def test_not_even_the_owner_inserts_into_a_closed_period(book, partner_id: UUID, owner_url: str, table: str) -> None:
    await book.post(book.topup(partner_id, 100))
    await close_period(book.runtime, datetime(2026, 11, 2, tzinfo=UTC), "finance:a")
    owner = open_owner_engine(owner_url)
    with owner.connect() as connection:
        name = connection.execute(text("SELECT tableoid::regclass::text FROM ledger_transactions LIMIT 1")).scalar_one()
        with pytest.raises(DBAPIError, match=r"is closed"):
            connection.execute(text(_INSERT.format(table=table.format(partition=name))))
    owner.dispose()


async def test_a_closing_waits_for_the_posting_that_is_under_way_and_counts_it(
    book, partner_id: UUID, until_someone_waits
) -> None:
    async with book.runtime.engine.connect() as first:
        await post(first, book.runtime, [early(book, book.topup(partner_id, 100))])
        closing = asyncio.create_task(close_period(book.runtime, book.WHEN, "finance:a"))
        await until_someone_waits()
        assert not closing.done()
        await first.commit()
    done = await closing
    assert (done.transactions, done.debits) == (1, Money(100))
    assert await times(book, "topup:1") == (book.WHEN - 3 * DAY, None)


async def test_a_posting_waits_for_the_closing_that_is_under_way_and_is_carried(
    book, partner_id: UUID, until_someone_waits
) -> None:
    async with book.runtime.engine.connect() as closing:
        await closing.execute(
            text("SELECT ledger_close(:now, :before, 'finance:a')"), {"now": book.runtime.clock.now(), "before": book.WHEN}
        )
        posting = asyncio.create_task(book.post(early(book, book.topup(partner_id, 100))))
        await until_someone_waits()
        await closing.commit()
    await posting
    assert await times(book, "topup:1") == (book.WHEN, book.WHEN - 3 * DAY)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_older_than_the_closing_does_not_slip_behind_it(book, partner_id: UUID, level: str) -> None:
    async with book.runtime.engine.connect() as older:
        await older.execution_options(isolation_level=level)
        await older.execute(text("SELECT count(*) FROM ledger_closings"))
        await close_period(book.runtime, book.WHEN, "finance:a")
        with pytest.raises(DBAPIError, match="could not serialize"):
            await post(older, book.runtime, [early(book, book.topup(partner_id, 100))])


async def test_postings_and_closings_at_once_lose_nothing(book, partner_id: UUID) -> None:
    async def postings(worker: int) -> None:
        for n in range(10):
            await book.post(early(book, book.topup(partner_id, 1, key=f"topup:{worker}:{n}"), 3 + worker))

    async def closings() -> None:
        for days in range(8, 1, -1):
            await close_period(book.runtime, book.WHEN - days * DAY, "finance:a")

    await asyncio.gather(*(postings(worker) for worker in range(4)), closings())
    last = await close_period(book.runtime, book.WHEN + DAY, "finance:a")
    async with book.runtime.engine.connect() as connection:
        closed = await list_closings(connection)
    assert sum(closing.transactions for closing in closed) == 40
    assert last.debits == Money(40)
    assert await verify_ledger_async(book.runtime.engine) == []
