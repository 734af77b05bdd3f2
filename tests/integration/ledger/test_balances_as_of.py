"""What was true at an instant: by effective and by booked time, across closings, for accounts of one row and of several."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from vault_core.database import open_async_engine, open_owner_engine
from vault_core.errors import InvalidInput
from vault_core.identifiers import id_maker
from vault_core.ledger.as_of import By, balance_before, trial_balance_before
from vault_core.ledger.balances import balance, trial_balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.closing import close_period
from vault_core.ledger.posting import post
from vault_core.ledger.snapshot import ledger_snapshot
from vault_core.ledger.statement import Statement, StatementLine, open_statement, statement_lines, statement_page
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.settings import Pace

BANK = AccountRef(None, "bank:settlement")
FEES = AccountRef(None, "fees:system")
HOUR = timedelta(hours=1)


async def at(runtime: Runtime, ref: AccountRef, before: datetime, by: By = "effective") -> int:
    async with runtime.engine.connect() as connection:
        return (await balance_before(connection, ref, before, by, now=runtime.clock.now())).cents


async def whole(
    runtime: Runtime, ref: AccountRef, start: datetime, end: datetime, by: By
) -> tuple[Statement, list[StatementLine]]:
    async with ledger_snapshot(runtime.engine) as connection:
        statement = await open_statement(connection, ref, start, end, by, now=runtime.clock.now())
        return statement, [line async for line in statement_lines(connection, statement)]


def close(owner_url: str, before: datetime) -> None:
    """A closing by its definition, from all entries there are: what ledger_close must come to as well."""
    owner = open_owner_engine(owner_url)
    with owner.begin() as connection:
        number = connection.execute(text("SELECT coalesce(max(number), 0) + 1 FROM ledger_closings")).scalar_one()
        connection.execute(
            text("INSERT INTO ledger_closings VALUES (:n, :before, :before, 'test', 0, 0)"), {"n": number, "before": before}
        )
        connection.execute(
            text(
                """
                INSERT INTO ledger_closing_balances SELECT :n, e.account_id, sum(e.amount_cents) FROM ledger_entries e
                JOIN ledger_transactions t ON t.id = e.transaction_id WHERE t.effective_at < :before GROUP BY e.account_id
                """
            ),
            {"n": number, "before": before},
        )
    owner.dispose()


async def test_a_balance_counts_what_was_effective_before_the_instant_and_nothing_at_it(
    runtime: Runtime, book, partner_id: UUID
) -> None:
    wallet, noon = AccountRef(partner_id, "wallet"), runtime.clock.now() - 5 * HOUR
    await book.post(replace(book.topup(partner_id, 100_00), effective_at=noon))
    await book.post(replace(book.charge(partner_id, 30_00, "c"), effective_at=noon - HOUR))  # told of later, happened earlier
    assert await at(runtime, wallet, noon - HOUR) == 0
    assert await at(runtime, wallet, noon) == -30_00
    assert await at(runtime, wallet, noon + timedelta(microseconds=1)) == 70_00
    assert await at(runtime, FEES, noon) == 30_00


async def test_the_books_of_an_instant_know_only_what_was_booked_by_then(runtime: Runtime, book, partner_id: UUID, clock) -> None:
    wallet, first = AccountRef(partner_id, "wallet"), clock.now()
    await book.post(replace(book.topup(partner_id, 100_00), effective_at=first - 20 * HOUR))
    clock.pass_time(hours=2)
    second = clock.now()
    await book.post(replace(book.charge(partner_id, 30_00, "c"), effective_at=first - 30 * HOUR))
    clock.pass_time(hours=2)
    found = [await at(runtime, wallet, instant, "booked") for instant in (first, second, clock.now())]
    assert found == [0, 100_00, 70_00]
    assert await at(runtime, wallet, first) == 70_00  # as we know it today


async def test_postings_that_were_booked_out_of_the_order_of_their_locks_count_by_their_booked_time(
    runtime: Runtime, book, partner_id: UUID, clock
) -> None:
    wallet, start = AccountRef(partner_id, "wallet"), clock.now()
    for number, minutes in enumerate((3, 1, 2, 0, 7, 5)):  # each later in the account's versions than the one before
        clock.moment = start + timedelta(minutes=minutes)
        await book.post(book.topup(partner_id, 10**number, key=f"t{number}"))
    clock.moment = start + HOUR
    by_minute = [await at(runtime, wallet, start + timedelta(minutes=minute), "booked") for minute in range(9)]
    assert by_minute == [0, 1000, 1010, 1110, 1111, 1111, 101111, 101111, 111111]
    statement, lines = await whole(runtime, wallet, start + timedelta(minutes=2), start + timedelta(minutes=6), "booked")
    assert [line.credit.cents for line in lines] == [1, 100, 100000]
    assert lines[-1].balance == statement.closing == Money(101111)


async def test_a_balance_in_a_closed_period_stands_on_its_closing_and_equals_the_sum_of_entries(
    runtime: Runtime, book, partner_id: UUID, owner_url: str
) -> None:
    wallet, noon = AccountRef(partner_id, "wallet"), runtime.clock.now() - 60 * HOUR
    for hours in range(6):
        await book.post(replace(book.topup(partner_id, 10**hours, key=f"t{hours}"), effective_at=noon + hours * HOUR))
    before_closing = [await at(runtime, wallet, noon + hours * HOUR) for hours in range(8)]
    close(owner_url, noon + 2 * HOUR)
    close(owner_url, noon + 4 * HOUR)
    assert [await at(runtime, wallet, noon + hours * HOUR) for hours in range(8)] == before_closing
    assert before_closing == [0, 1, 11, 111, 1111, 11111, 111111, 111111]
    assert [await at(runtime, BANK, noon + hours * HOUR) for hours in range(8)] == before_closing


async def test_a_balance_reads_its_closing_and_not_the_whole_history(
    runtime: Runtime, book, partner_id: UUID, owner_url: str
) -> None:
    wallet, noon = AccountRef(partner_id, "wallet"), runtime.clock.now() - 60 * HOUR
    await book.post(replace(book.topup(partner_id, 100), effective_at=noon))
    close(owner_url, noon + HOUR)
    owner = open_owner_engine(owner_url)
    with owner.begin() as connection:  # a figure that no sum of entries gives shows where it was read
        connection.execute(text("ALTER TABLE ledger_closing_balances DISABLE TRIGGER USER"))
        connection.execute(text("UPDATE ledger_closing_balances SET balance_cents = 5 * balance_cents"))
    owner.dispose()
    assert await at(runtime, wallet, noon + 2 * HOUR) == 500
    assert await at(runtime, wallet, runtime.clock.now()) == 100  # the present is nearer


async def test_the_trial_balance_of_any_instant_balances_and_the_latest_is_the_present_one(
    runtime: Runtime, book, partner_id: UUID, clock
) -> None:
    other = await book.partner("beta")
    start = clock.now()
    for number, owner in enumerate((partner_id, other, partner_id)):
        await book.post(replace(book.topup(owner, 50_00 + number, key=f"t{number}"), effective_at=start - number * HOUR))
        await book.post(book.charge(owner, 7_00, f"c{number}"))
        clock.pass_time(minutes=40)
    async with runtime.engine.connect() as connection:
        for by in ("effective", "booked"):
            for minutes in range(-150, 150, 10):
                lines = await trial_balance_before(connection, start + timedelta(minutes=minutes), by, now=clock.now())
                assert sum(line.debit.cents for line in lines) == sum(line.credit.cents for line in lines)
            latest = await trial_balance_before(connection, clock.now(), by, now=clock.now())
            assert latest == await trial_balance(connection)


async def test_a_house_account_of_several_rows_reads_as_one(runtime: Runtime, book, partner_id: UUID, clock) -> None:
    start = clock.now()
    async with AsyncExitStack() as stack:  # a connection keeps to one row of a house account
        connections = [await stack.enter_async_context(runtime.engine.connect()) for _ in range(5)]
        for number in range(15):
            clock.pass_time(minutes=7)
            connection = connections[number % 5]
            await post(connection, runtime, [replace(book.topup(partner_id, 10, key=f"t{number}"), effective_at=clock.now())])
            await connection.commit()
    async with runtime.engine.connect() as connection:
        rows = (
            await connection.execute(text("SELECT count(*) FROM ledger_accounts WHERE code = 'bank:settlement'"))
        ).scalar_one()
    assert rows > 1
    for by in ("effective", "booked"):
        statement, lines = await whole(runtime, BANK, start + timedelta(minutes=20), start + timedelta(minutes=75), by)
        assert (statement.opening.cents, [line.balance.cents for line in lines]) == (20, list(range(30, 110, 10)))
        assert [line.booked_at for line in lines] == sorted(line.booked_at for line in lines)
        assert await in_pages(runtime, statement, 3) == lines


async def test_an_account_that_was_never_used_has_a_statement_of_nothing(runtime: Runtime, partner_id: UUID) -> None:
    now = runtime.clock.now()
    for by in ("effective", "booked"):
        statement, lines = await whole(runtime, AccountRef(partner_id, "suspense"), now - HOUR, now, by)
        assert (statement.opening, statement.closing, lines) == (Money(0), Money(0), [])


async def test_a_statement_that_ends_before_it_starts_and_a_page_of_nothing_are_refused(
    runtime: Runtime, partner_id: UUID
) -> None:
    now, wallet = runtime.clock.now(), AccountRef(partner_id, "wallet")
    async with runtime.engine.connect() as connection:
        with pytest.raises(InvalidInput, match="before it starts"):
            await open_statement(connection, wallet, now, now - HOUR, "booked", now=now)
        statement = await open_statement(connection, wallet, now - HOUR, now, "booked", now=now)
        with pytest.raises(InvalidInput, match="at least one"):
            await statement_page(connection, statement, most=0)


@dataclass(frozen=True)
class Act:
    """A posting of the property test, in minutes: how late it gets its accounts' locks, and when it happened."""

    waited: int
    effective: int
    cents: int
    charge: bool


ACTS = st.lists(
    st.builds(Act, st.integers(0, 7), st.integers(-12_000, 300), st.integers(1, 10**6), st.booleans()), min_size=1, max_size=12
)
SPANS = st.tuples(st.integers(-12_000, 200), st.integers(0, 12_500))


async def in_pages(runtime: Runtime, statement: Statement, most: int) -> list[StatementLine]:
    lines, place = [], None
    async with runtime.engine.connect() as connection:
        while True:
            page = await statement_page(connection, statement, after=place, most=most)
            lines += page.lines
            if (place := page.following) is None:
                return lines


def test_opening_and_lines_always_sum_to_closing_in_pages_of_any_size(database_url: str, clock, sealer, book_of) -> None:
    with asyncio.Runner() as runner:
        engine = open_async_engine(database_url)
        http = httpx.AsyncClient()
        runtime = Runtime(engine, clock, id_maker(clock), random.Random(1), sealer, http, Pace(), "")
        book = book_of(runtime)
        partner_id = runner.run(book.partner("alpha"))
        accounts = (AccountRef(partner_id, "wallet"), BANK, FEES)
        # Each example has its own week, and its own figures: what was posted before it is its opening balance.
        weeks = (datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=7 * number) for number in range(10**4))

        final: dict[tuple[AccountRef, datetime], int] = {}

        async def example(acts: list[Act], span: tuple[int, int], most: int, *, closing: bool) -> None:
            zero = next(weeks)
            books_before = [await at(runtime, ref, zero - timedelta(days=3), "booked") for ref in accounts]
            for number, act in enumerate(acts):
                clock.moment = zero + timedelta(minutes=10 * number - act.waited)
                make = book.charge if act.charge else book.topup
                happened = zero + timedelta(minutes=act.effective)
                await book.post(replace(make(partner_id, act.cents, f"{zero:%Y%m%d}:{number}"), effective_at=happened))
            clock.moment = zero + timedelta(days=2)
            low = zero + timedelta(minutes=span[0])
            high = low + timedelta(minutes=span[1])
            for ref, before in zip(accounts, books_before, strict=True):
                for by in ("effective", "booked"):
                    statement, lines = await whole(runtime, ref, low, high, by)
                    side = 1 if ref.normal_side == "debit" else -1
                    moved = sum((line.debit.cents - line.credit.cents) * side for line in lines)
                    assert statement.opening.cents + moved == statement.closing.cents
                    assert [line.balance for line in lines[-1:]] in ([], [statement.closing])
                    assert all(low <= (line.effective_at if by == "effective" else line.booked_at) < high for line in lines)
                    assert await in_pages(runtime, statement, most) == lines
                assert await at(runtime, ref, zero - timedelta(days=3), "booked") == before
                async with runtime.engine.connect() as connection:
                    present = (await balance(connection, ref)).posted.cents
                assert [await at(runtime, ref, clock.moment, by) for by in ("effective", "booked")] == [present, present]
            for (ref, instant), cents in final.items():
                assert await at(runtime, ref, instant) == cents
            if closing:  # some of what the next example posts happened before it
                await close_period(runtime, zero, "test")
                final.update({(ref, zero): await at(runtime, ref, zero) for ref in accounts})

        @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(acts=ACTS, span=SPANS, most=st.integers(1, 5), closing=st.booleans())
        def law(*, acts: list[Act], span: tuple[int, int], most: int, closing: bool) -> None:
            runner.run(example(acts, span, most, closing=closing))

        try:
            law()
        finally:
            runner.run(engine.dispose())
            runner.run(http.aclose())
