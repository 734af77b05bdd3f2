"""Processes that die in the middle: at every statement and commit of every act of the ledger, all of it is done or nothing is.

The child is forked from the test with the product's code loaded, does one act, and kills itself with SIGKILL at its n-th point; then
n + 1, until it lives to the end. After each death the ledger proves itself, and the same act done again has exactly one effect.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import httpx
import psycopg
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.ledger.conftest import Book
from vault_core.clock import SystemClock
from vault_core.database import in_transaction, open_async_engine, open_sync_engine
from vault_core.errors import Conflict
from vault_core.identifiers import id_maker
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.closing import close_period
from vault_core.ledger.holds import HoldRequest, expire_holds, keep_holds, place_holds
from vault_core.ledger.sealing import seal_due
from vault_core.ledger.verification import verify_ledger
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace

_MOST_POINTS = 60

_STATE = text(
    """
    SELECT (SELECT sum(balance_cents) FROM ledger_accounts WHERE code = 'wallet'), (SELECT sum(held_cents) FROM ledger_accounts),
           (SELECT count(*) FROM ledger_transactions), (SELECT count(*) FROM ledger_entries), (SELECT count(*) FROM ledger_keys),
           (SELECT count(*) FROM ledger_holds), (SELECT count(*) FROM ledger_holds WHERE state = 'captured'),
           (SELECT count(*) FROM ledger_holds WHERE state = 'released'), (SELECT count(*) FROM ledger_holds WHERE state = 'expired'),
           (SELECT count(*) FROM ledger_holds WHERE expires_at IS NOT NULL), (SELECT count(*) FROM ledger_seals),
           (SELECT coalesce(sum(transactions), 0) FROM ledger_seals), (SELECT count(*) FROM ledger_closings),
           (SELECT count(*) FROM audit_log)
    """
)
State = tuple[int, ...]


async def hold_for_ever(book: Book, partner: UUID, n: int) -> UUID:
    (hold,) = await book.hold(partner, (f"hold:{n}", 500))
    assert isinstance(hold, UUID)
    return hold


async def hold_for_an_hour(book: Book, partner: UUID, n: int, *, ago: int = 0) -> UUID:
    now = book.runtime.clock.now() - timedelta(hours=ago)
    request = HoldRequest(AccountRef(partner, "wallet"), partner, f"hold:{n}", Money(500), now + timedelta(hours=1))
    answers = await in_transaction(book.runtime.engine, lambda connection: place_holds(connection, earlier(book, ago), [request]))
    return cast("UUID", answers[request.key])


def earlier(book: Book, hours: int) -> Runtime:
    class Then:
        def now(self) -> Any:
            return SystemClock().now() - timedelta(hours=hours)

    return Runtime(
        book.runtime.engine, Then(), book.runtime.new_id, book.runtime.chance, book.runtime.sealer, book.runtime.http, Pace(), ""
    )


async def post_something(book: Book, partner: UUID, n: int) -> None:
    await book.post(book.topup(partner, 100, key=f"before:{n}"))


async def nothing(_book: Book, _partner: UUID, _n: int) -> None:
    return None


async def close_once(book: Book, n: int) -> None:
    before = book.runtime.clock.now().replace(year=2020, microsecond=0, second=0, minute=0) + timedelta(hours=n)
    with suppress(Conflict):  # it was closed by the child that died after its commit
        await close_period(book.runtime, before, "test")


Prepare = Callable[[Book, UUID, int], Awaitable[Any]]
Act = Callable[[Book, UUID, int, Any], Awaitable[Any]]
ACTS: dict[str, tuple[Prepare, Act]] = {
    "a batch of postings": (nothing, lambda b, p, n, _: b.post(b.topup(p, 70, f"a:{n}"), b.charge(p, 30, f"b:{n}"))),
    "a batch of holds": (nothing, lambda b, p, n, _: b.hold(p, (f"c:{n}", 20), (f"d:{n}", 40))),
    "a capture in part": (hold_for_ever, lambda b, p, n, hold: b.capture((hold, b.charge(p, 300, f"e:{n}")))),
    "a release": (hold_for_ever, lambda b, _p, _n, hold: b.release([hold])),
    "keeping a hold": (
        hold_for_an_hour,
        lambda b, _p, _n, hold: in_transaction(b.runtime.engine, lambda connection: keep_holds(connection, b.runtime, [hold])),
    ),
    "an expiry": (lambda b, p, n: hold_for_an_hour(b, p, n, ago=2), lambda b, _p, _n, _hold: expire_holds(b.runtime)),
    "a seal": (post_something, lambda b, _p, _n, _: seal_due(b.runtime)),
    "a closing": (nothing, lambda b, _p, n, _: close_once(b, n)),
}


def open_book(url: str) -> Book:
    clock = SystemClock()
    nobody = cast("httpx.AsyncClient", None)  # the ledger calls nobody outside
    sealer = Sealer([("k", bytes(32))])
    return Book(Runtime(open_async_engine(url, pool_size=1), clock, id_maker(clock), random.Random(), sealer, nobody, Pace(), ""))


def with_book(url: str, work: Callable[[Book], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        book = open_book(url)
        try:
            return await work(book)
        finally:
            await book.runtime.engine.dispose()

    return asyncio.run(main())


def strike_at(engine: AsyncEngine, number: int, blow: Callable[[Any], None]) -> None:
    """Calls `blow` with the driver's connection at point `number`: before and after each statement, before and after each commit."""
    passed = [0]

    def point(connection: Any) -> None:
        passed[0] += 1
        if passed[0] == number:
            blow(connection)

    def of_statement(connection: Connection, *_: Any) -> None:
        point(connection.connection.driver_connection)

    event.listen(engine.sync_engine, "before_cursor_execute", of_statement)
    event.listen(engine.sync_engine, "after_cursor_execute", of_statement)
    event.listen(engine.sync_engine, "commit", of_statement)
    event.listen(engine.sync_engine.pool, "checkin", lambda dbapi, _record: point(dbapi and dbapi.driver_connection))


def dies_at(url: str, number: int, act: Callable[[Book], Awaitable[Any]]) -> bool:
    """Whether a child that does `act` died at its point `number`; False: it had fewer points and did all of it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:

            async def main() -> None:
                book = open_book(url)
                strike_at(book.runtime.engine, number, lambda _connection: os.kill(os.getpid(), signal.SIGKILL))
                await act(book)

            asyncio.run(main())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return False


@pytest.fixture
def ledger(database_url: str) -> tuple[str, UUID]:
    """A database's address and the partner of its funded wallet."""

    async def make(book: Book) -> UUID:
        partner = await book.partner("alpha")
        await book.post(book.topup(partner, 10_000_000))
        await seal_due(book.runtime)
        return partner

    return database_url, with_book(database_url, make)


def state_of(url: str) -> State:
    engine = open_sync_engine(url)
    with engine.connect() as connection:
        row = connection.execute(_STATE).one()
    engine.dispose()
    return tuple(int(value) for value in row)


def proved(url: str) -> State:
    engine = open_sync_engine(url)
    assert verify_ledger(engine) == []
    engine.dispose()
    return state_of(url)


def change(before: State, after: State) -> State:
    return tuple(new - old for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(("prepare", "act"), ACTS.values(), ids=ACTS.keys())
def test_an_act_whose_process_dies_at_any_point_is_done_once_when_it_is_done_again(
    ledger: tuple[str, UUID], prepare: Prepare, act: Act
) -> None:
    url, partner = ledger
    whole = effect_of(url, partner, prepare, act)
    outcomes: list[bool] = []
    for number in range(1, _MOST_POINTS):
        prepared = with_book(url, lambda book, n=number: prepare(book, partner, n))
        before = state_of(url)
        died = dies_at(url, number, lambda book, n=number, what=prepared: act(book, partner, n, what))
        left = change(before, proved(url))
        assert left in (whole, change(before, before)), f"half of it was done by a process that died at its point {number}"
        with_book(url, lambda book, n=number, what=prepared: act(book, partner, n, what))
        assert change(before, proved(url)) == whole, f"point {number}: doing it again did not come to one effect"
        if not died:
            break
        outcomes.append(left == whole)
    assert len(outcomes) >= 4  # before and after its statement, before and after its commit
    assert outcomes == sorted(outcomes)  # nothing before some point, everything after it
    assert outcomes[0] is False
    assert outcomes[-1] is True


@pytest.mark.parametrize(("prepare", "act"), ACTS.values(), ids=ACTS.keys())
def test_an_act_whose_server_process_is_ended_at_any_point_is_done_once_when_it_is_done_again(
    ledger: tuple[str, UUID], owner_url: str, prepare: Prepare, act: Act
) -> None:
    url, partner = ledger
    whole = effect_of(url, partner, prepare, act)
    ended = 0
    for number in range(1, _MOST_POINTS):
        prepared = with_book(url, lambda book, n=number: prepare(book, partner, n))
        before = state_of(url)
        struck: list[int] = []

        def blow(connection: Any, struck: list[int] = struck) -> None:
            struck.append(connection.info.backend_pid)
            with psycopg.connect(owner_url.replace("+psycopg", ""), autocommit=True) as owner:
                owner.execute("SELECT pg_terminate_backend(%s, 5000)", struck)

        async def try_it(book: Book, n: int = number, what: Any = prepared, blow: Any = blow) -> None:
            strike_at(book.runtime.engine, n, blow)
            with suppress(DBAPIError):
                await act(book, partner, n, what)

        with_book(url, try_it)
        assert change(before, proved(url)) in (whole, change(before, before))
        with_book(url, lambda book, n=number, what=prepared: act(book, partner, n, what))
        assert change(before, proved(url)) == whole
        if not struck:
            break
        ended += 1
    assert ended >= 4


def effect_of(url: str, partner: UUID, prepare: Prepare, act: Act) -> State:
    """What the act changes when nothing goes wrong."""
    prepared = with_book(url, lambda book: prepare(book, partner, 0))
    before = state_of(url)
    with_book(url, lambda book: act(book, partner, 0, prepared))
    whole = change(before, state_of(url))
    assert any(whole)
    return whole
