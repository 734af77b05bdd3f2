"""The statement of an account: what stood at the start, every line in order with the balance after it, what stands at the end.

A house account's shards read as one account. By booked time the lines stand in the order in which they moved the account, so that
a partner's running balance is the one it had at that moment. By effective time they stand in the order in which things happened.
Opening balance and lines always sum to the closing balance.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.identifiers import lowest_id_at
from vault_core.ledger.as_of import BOOKED_WITHIN, By, balance_before
from vault_core.ledger.balances import HOUSE
from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money

_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Statement:
    """The frame of a statement of [start, end), both aware. Balances are in the account's normal side."""

    account: AccountRef
    by: By
    start: datetime
    end: datetime
    opening: Money
    closing: Money


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry: exactly one of debit and credit is not zero. `balance` is the account's, in its normal side, after it.

    `carried_from` is when it really happened, if that period was closed before it was told of.
    """

    transaction_id: UUID
    leg: int
    effective_at: datetime
    booked_at: datetime
    carried_from: datetime | None
    kind: str
    reference: str
    description: str
    reverses: UUID | None
    debit: Money
    credit: Money
    balance: Money


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One row of the account: versions after `after` and up to `reach` are still to be looked at."""

    row: int
    after: int
    reach: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: by effective time the last line's key, by booked time what is left of each of the account's rows."""

    balance: Money
    last: tuple[datetime, UUID, int] | None = None
    rows: tuple["RowPlace", ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, fewer than asked for at times, and where the next page begins (None: these are the last)."""

    lines: tuple[StatementLine, ...]
    following: Place | None


_COLUMNS = """
    t.id, e.leg, t.effective_at, t.booked_at, t.carried_from, t.kind, t.reference, t.description, t.reverses, e.amount_cents,
    e.account_id, e.account_version
    """
_ROWS = text("SELECT a.id FROM ledger_accounts a WHERE a.scope = :scope AND a.code = :code ORDER BY a.id")
# A partner's accounts are moved by its own transactions only, so that its index finds them. OFFSET 0: as in as_of.py.
_EFFECTIVE = """
    SELECT {columns} FROM ledger_transactions t
    CROSS JOIN LATERAL (
        SELECT * FROM ledger_entries WHERE transaction_id = t.id AND account_id = ANY(:rows) OFFSET 0) AS e
    WHERE t.effective_at >= :start AND t.effective_at < :end {and_of_partner}
          AND (CAST(:last_id AS uuid) IS NULL OR (t.effective_at, t.id, e.leg) > (:start, :last_id, :last_leg))
    ORDER BY t.effective_at, t.id, e.leg LIMIT CAST(:most AS bigint)
    """
_EFFECTIVE_OF_HOUSE = text(_EFFECTIVE.format(columns=_COLUMNS, and_of_partner=""))
_EFFECTIVE_OF_PARTNER = text(_EFFECTIVE.format(columns=_COLUMNS, and_of_partner="AND t.partner_id = :partner"))
_REACHES = text(
    """
    SELECT a.id, low.version AS after, ledger_version_before(a.id, :high_id, low.version) AS reach
    FROM unnest(CAST(:rows AS bigint[])) AS a(id)
    CROSS JOIN LATERAL (SELECT ledger_version_before(a.id, :low_id) AS version OFFSET 0) AS low
    """
)
_BOOKED = """
    SELECT page.* FROM unnest(CAST(:rows AS bigint[]), CAST(:afters AS bigint[]), CAST(:reaches AS bigint[]))
        AS a(id, after, reach)
    CROSS JOIN LATERAL (
        SELECT {columns} FROM ledger_entries e
        CROSS JOIN LATERAL (
            SELECT * FROM ledger_transactions
            WHERE id = e.transaction_id AND booked_at >= :start AND booked_at < :end OFFSET 0) AS t
        WHERE e.account_id = a.id AND e.account_version > a.after AND e.account_version <= a.reach
        ORDER BY e.account_version LIMIT :most) AS page
    ORDER BY page.account_id, page.account_version
    """
_BOOKED_OF_ROWS = text(_BOOKED.format(columns=_COLUMNS))


def require_span(start: datetime, end: datetime) -> None:
    """Raises InvalidInput for a period that ends before it starts."""
    if end < start:
        low, high = (f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M}" for moment in (start, end))
        raise InvalidInput(f"the period would end ({high} Nairobi) before it starts ({low}): exchange the two")


async def open_statement(
    connection: AsyncConnection, account: AccountRef, start: datetime, end: datetime, by: By, *, now: datetime
) -> Statement:
    """The frame of the statement of everything in [start, end). Raises InvalidInput if it ends before it starts.

    For a statement that is whole while postings go on, ask on a `ledger_snapshot`, and for its lines too.
    """
    require_span(start, end)
    opening = await balance_before(connection, account, start, by, now=now)
    closing = await balance_before(connection, account, end, by, now=now)
    return Statement(account, by, start, end, opening, closing)


async def statement_page(
    connection: AsyncConnection, statement: Statement, *, after: Place | None = None, most: int = 100
) -> Page:
    """The next `most` lines. A page costs what it shows; one of a house account by effective time, all that is still to come."""
    if most < 1:
        raise InvalidInput(f"a page of {most} lines shows nothing: ask for at least one")
    rows = await _account_rows(connection, statement.account)
    if statement.by == "booked":
        return await _booked_page(connection, statement, rows, after, most)
    found = (await connection.execute(*_effective(statement, rows, after, most))).all()
    running = _running(statement, found, after.balance if after else statement.opening)
    if len(found) < most:
        return Page(running, None)
    end = found[-1]
    return Page(running, Place(running[-1].balance, last=(end.effective_at, end.id, end.leg)))


async def statement_lines(connection: AsyncConnection, statement: Statement) -> AsyncGenerator[StatementLine]:
    """All lines, read in chunks: a million need no more memory than a thousand. Close it if you stop before its end."""
    if statement.by == "booked":
        place = None
        while True:
            page = await statement_page(connection, statement, after=place, most=_CHUNK)
            for line in page.lines:
                yield line
            if (place := page.following) is None:
                return
    rows = await _account_rows(connection, statement.account)
    balance = statement.opening
    query, values = _effective(statement, rows, None, None)
    async with connection.stream(query, values, execution_options={"yield_per": _CHUNK}) as result:
        async for chunk in result.partitions():
            for line in _running(statement, chunk, balance):
                balance = line.balance
                yield line


async def _account_rows(connection: AsyncConnection, account: AccountRef) -> list[int]:
    rows = await connection.execute(_ROWS, {"scope": account.partner_id or HOUSE, "code": account.code})
    return [row.id for row in rows]


def _effective(statement: Statement, rows: list[int], after: Place | None, most: int | None) -> tuple[Any, dict[str, Any]]:
    at, last_id, last_leg = after.last if after and after.last else (statement.start, None, None)
    values = {"rows": rows, "start": at, "end": statement.end, "last_id": last_id, "last_leg": last_leg, "most": most}
    if statement.account.partner_id is None:
        return _EFFECTIVE_OF_HOUSE, values
    return _EFFECTIVE_OF_PARTNER, {**values, "partner": statement.account.partner_id}


async def _booked_page(
    connection: AsyncConnection, statement: Statement, rows: list[int], after: Place | None, most: int
) -> Page:
    places = after.rows if after else await _row_places(connection, statement, rows)
    # Twice a row's even share. A row that fills it may have more, so nothing is taken beyond its last entry.
    share = most if len(places) < 2 else -(-2 * most // len(places))  # noqa: PLR2004 - one row needs no share
    values = {
        "rows": [place.row for place in places],
        "afters": [place.after for place in places],
        "reaches": [place.reach for place in places],
        "start": statement.start,
        "end": statement.end,
        "most": share,
    }
    found = (await connection.execute(_BOOKED_OF_ROWS, values)).all()
    by_row = {row: list(entries) for row, entries in groupby(found, key=attrgetter("account_id"))}
    filled = {entries[-1] for entries in by_row.values() if len(entries) == share}
    chosen: list[Row[Any]] = []
    for entry in merge(*by_row.values(), key=lambda entry: (entry.id, entry.leg)):
        chosen.append(entry)
        if len(chosen) == most or entry in filled:
            break
    running = _running(statement, chosen, after.balance if after else statement.opening)
    if len(chosen) == len(found) and not filled and len(chosen) < most:
        return Page(running, None)
    reached = {entry.account_id: entry.account_version for entry in chosen}
    left = tuple(replace(place, after=reached.get(place.row, place.after)) for place in places)
    return Page(running, Place(running[-1].balance, rows=left))


async def _row_places(connection: AsyncConnection, statement: Statement, rows: list[int]) -> tuple[RowPlace, ...]:
    low_id, high_id = lowest_id_at(statement.start - BOOKED_WITHIN), lowest_id_at(statement.end + BOOKED_WITHIN)
    found = await connection.execute(_REACHES, {"rows": rows, "low_id": low_id, "high_id": high_id})
    return tuple(RowPlace(row.id, row.after, row.reach) for row in found)


def _running(statement: Statement, entries: Iterable[Row[Any]] | Sequence[Row[Any]], balance: Money) -> tuple[StatementLine, ...]:
    lines = []
    raised_by_debits = statement.account.normal_side == "debit"
    for entry in entries:
        amount = Money(entry.amount_cents)
        balance += amount if raised_by_debits else -amount
        lines.append(
            StatementLine(
                transaction_id=entry.id,
                leg=entry.leg,
                effective_at=entry.effective_at,
                booked_at=entry.booked_at,
                carried_from=entry.carried_from,
                kind=entry.kind,
                reference=entry.reference,
                description=entry.description,
                reverses=entry.reverses,
                debit=amount if entry.amount_cents > 0 else ZERO,
                credit=-amount if entry.amount_cents < 0 else ZERO,
                balance=balance,
            )
        )
    return tuple(lines)
