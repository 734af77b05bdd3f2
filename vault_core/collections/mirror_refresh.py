"""Keeping the mirror of each partner's accounts: all of them now and then, the new ones often, one partner apart from another.

No version of Mifos X tells what changed since a moment (reference/fineract.md section 3), but ids only grow: what was made since
is read newest first until the known begins. What a state became is told by our own postings (mirror_writing.note_seen) and by the
next full read.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import AccountPage, FoundAccount, ListedClient
from vault_core.collections.mirror_writing import drop_gone, highest_id, known_ids, note_paid_out, write_accounts
from vault_core.database import in_transaction
from vault_core.errors import NotFound, NotUnderstood, VaultError
from vault_core.outbox.calls import MIFOS_TOPIC, has_due_calls
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)


class Page(Protocol):
    """A page of any list."""

    @property
    def total(self) -> int:
        """How many rows the whole list has."""
        ...

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the page's rows, in the server's order."""
        ...


P = TypeVar("P", bound=Page)

PAGE = 200
_NEW_ONES = 20  # looked at first for what is new: a row of a list costs Mifos X tens of milliseconds
_KINDS = ("loan", "savings")
_PARTNERS_AT_ONCE = 4
_READS_AT_ONCE = 4
_LEASE = timedelta(minutes=10)  # a refresh renews it page by page; a worker that died is replaced after it
_LONGEST_WAIT = 3600.0
_GIVES_WAY = timedelta(minutes=2)  # to postings, which share the server with it, before a renewal is made beside them
_READ_GIVES_WAY = timedelta(minutes=15)  # the same of a full read: each of its pages costs the server as much as ten postings
_LOOKS_AGAIN = timedelta(seconds=5)
_SHARE = 10  # a full read that took long is repeated so seldom that it is a tenth of the time

_ENROL = text("INSERT INTO mifos_mirrors (partner_id, due_at) SELECT id, :now FROM partners ON CONFLICT DO NOTHING")
_TAKE = text(
    """
    UPDATE mifos_mirrors SET due_at = :lease
    FROM (SELECT partner_id FROM mifos_mirrors WHERE due_at <= :now ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE mifos_mirrors.partner_id = due.partner_id
    RETURNING mifos_mirrors.partner_id, read_at, renewed_at, took_seconds, failures
    """
)
_KEEP = text("UPDATE mifos_mirrors SET due_at = :lease WHERE partner_id = :partner_id")
_DONE = text(
    """
    UPDATE mifos_mirrors SET due_at = :due, renewed_at = :at, read_at = coalesce(CAST(:read_at AS timestamptz), read_at),
           took_seconds = coalesce(CAST(:took AS int), took_seconds), failures = 0, last_error = :error
    WHERE partner_id = :partner_id
    """
)
_FAILED = text(
    "UPDATE mifos_mirrors SET due_at = :due, failures = failures + 1, last_error = :error WHERE partner_id = :partner_id"
)


async def refresh_mirrors(runtime: Runtime, connections: Connections) -> int:
    """Refreshes the mirrors that are due, several partners at once, and plans the next time of each. Returns how many.

    While postings to a partner's Mifos X are due, its refresh waits for them, within a bound. A partner's failure is its own: it
    is kept (`mifos_mirrors.last_error`) and tried again after a growing wait. Several workers share the partners between them.
    """

    async def take(connection: AsyncConnection) -> Sequence[Row[Any]]:
        now = runtime.clock.now()
        await connection.execute(_ENROL, {"now": now})
        return (await connection.execute(_TAKE, {"now": now, "lease": now + _LEASE, "most": _PARTNERS_AT_ONCE})).all()

    due = await in_transaction(runtime.engine, take)
    await asyncio.gather(*(_refresh(runtime, connections, row) for row in due))
    return len(due)


async def _refresh(runtime: Runtime, connections: Connections, mirror: Row[Any]) -> None:
    partner_id = mirror.partner_id
    started, pace = runtime.clock.now(), runtime.pace
    every = max(pace.mirror_read_every, _SHARE * mirror.took_seconds)
    full = mirror.read_at is None or (started - mirror.read_at).total_seconds() >= every
    if mirror.read_at is not None and await has_due_calls(runtime, partner_id, MIFOS_TOPIC):
        if started - mirror.renewed_at < timedelta(seconds=pace.mirror_renew_every) + _GIVES_WAY:
            await _write(runtime, _KEEP, partner_id, lease=started + _LOOKS_AGAIN)
            return
        full = full and started - mirror.read_at >= timedelta(seconds=every) + _READ_GIVES_WAY
    try:
        client = await connections.mifos(partner_id)
        unreadable = await (_read_all if full else _read_new)(runtime, client, partner_id, started)
    except (VaultError, DBAPIError) as failure:
        wait = _wait_after(mirror.failures + 1, runtime)
        # The text of a database error may quote what was to be written.
        told = type(failure).__name__ if isinstance(failure, DBAPIError) else f"{type(failure).__name__}: {failure}"[:500]
        log.warning("mirror not refreshed", partner_id=str(partner_id), cause=told, again_in=round(wait.total_seconds()))
        await _write(runtime, _FAILED, partner_id, due=runtime.clock.now() + wait, error=told)
        return
    now = runtime.clock.now()
    if mirror.renewed_at is not None:
        await in_transaction(runtime.engine, lambda one: note_paid_out(one, partner_id, since=mirror.renewed_at))
    due = now + timedelta(seconds=pace.mirror_renew_every)
    took = int((now - started).total_seconds()) if full else None
    error = f"{len(unreadable)} accounts were not understood: {'; '.join(unreadable)}"[:500] if unreadable else None
    read_at = started if full else None
    await _write(runtime, _DONE, partner_id, due=due, at=started, read_at=read_at, took=took, error=error)


async def _read_all(runtime: Runtime, client: MifosClient, partner_id: UUID, started: datetime) -> list[str]:
    """All clients, then all accounts page by page, then what is gone is dropped. Returns what could not be read."""
    clients: dict[int, ListedClient] = {}
    async for page in pages_in_order(lambda offset: client.client_page(offset=offset, limit=PAGE)):
        clients |= {each.id: each for each in page.clients}
        await _write(runtime, _KEEP, partner_id, lease=runtime.clock.now() + _LEASE)
    unreadable: list[str] = []
    for kind in _KINDS:

        async def read(offset: int, of: str = kind) -> AccountPage:
            return await client.account_page(of, offset=offset, limit=PAGE)

        async for accounts in pages_in_order(read):
            await _write_page(runtime, partner_id, accounts.accounts, clients, started)
            unreadable += accounts.unreadable
    if not unreadable:  # else one that is there, and was not understood, would be dropped
        await in_transaction(runtime.engine, lambda connection: drop_gone(connection, partner_id, before=started))
    return unreadable


async def pages_in_order(read: Callable[[int], Awaitable[P]]) -> AsyncIterator[P]:
    """Every page of a list in the order of its ids; no row slips when others vanish while it is read.

    Each page is asked for from the last row of the one before it. Where it does not begin there, or sooner, something before it
    is gone and the rows have moved up: then it is read again from further ahead. Raises NotUnderstood for a server that does not
    keep the order or stops before its own count.
    """
    offset, last = 0, None
    while True:
        page = await read(offset)
        if list(page.ids) != sorted(page.ids):
            raise NotUnderstood("a list of Mifos X is not in the order of ids that was asked for", code="order")
        if last is not None and offset > 0 and (not page.ids or page.ids[0] > last):
            offset = max(0, offset - PAGE)
            continue
        yield page
        if offset + len(page.ids) >= page.total:
            return
        if len(page.ids) < 2:  # noqa: PLR2004 - one row is the overlap: nothing came
            raise NotUnderstood(f"a list of Mifos X stops at row {offset + len(page.ids)} of {page.total}", code="short")
        offset, last = offset + len(page.ids) - 1, page.ids[-1]


async def _read_new(runtime: Runtime, client: MifosClient, partner_id: UUID, started: datetime) -> list[str]:
    """The accounts made since the mirror was last read: read newest first until the known begins, written the oldest first.

    So a read that is cut off leaves no gap behind the newest account that the mirror has. Of a page that reaches the known ones
    those are written, too, that came later than their ids tell: Mifos X gives an id out before its transaction ends.
    """
    unreadable: list[str] = []
    for kind in _KINDS:
        async with runtime.engine.connect() as connection:
            known = await highest_id(connection, partner_id, kind)
        pages: list[AccountPage] = []
        offset = 0
        while True:
            limit = PAGE if offset else _NEW_ONES
            page = await client.account_page(kind, offset=offset, limit=limit, newest_first=True)
            pages.append(page)
            unreadable += page.unreadable
            if not page.ids or min(page.ids) <= known or offset + len(page.ids) >= page.total:
                break
            offset += len(page.ids)  # rows that were made meanwhile only move the others on: none slips
            await _write(runtime, _KEEP, partner_id, lease=runtime.clock.now() + _LEASE)
        for page in reversed(pages):
            async with runtime.engine.connect() as connection:
                there = await known_ids(connection, partner_id, kind, page.ids)
            new = [one for one in page.accounts if one.id not in there]
            await _write_page(runtime, partner_id, new, await _clients_of(client, new), started)
    return unreadable


async def _clients_of(client: MifosClient, accounts: Sequence[FoundAccount]) -> dict[int, ListedClient]:
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def one(client_id: int) -> ListedClient | None:
        async with turns:
            try:
                return await client.listed_client(client_id)
            except NotFound:
                return None

    wanted = sorted({each.client_id for each in accounts if each.client_id is not None})
    return {each.id: each for each in await asyncio.gather(*map(one, wanted)) if each is not None}


async def _write_page(
    runtime: Runtime, partner_id: UUID, accounts: Sequence[FoundAccount], clients: dict[int, ListedClient], at: datetime
) -> None:
    async def work(connection: AsyncConnection) -> None:
        await write_accounts(connection, runtime.sealer, partner_id, accounts, clients, at=at)
        await connection.execute(_KEEP, {"partner_id": partner_id, "lease": runtime.clock.now() + _LEASE})

    await in_transaction(runtime.engine, work)


def _wait_after(failures: int, runtime: Runtime) -> timedelta:
    """Doubling from the usual pause, with up to half taken off by chance: partners of one server do not come back as one."""
    longest = min(_LONGEST_WAIT, runtime.pace.mirror_renew_every * 2.0 ** min(failures - 1, 20))
    return timedelta(seconds=longest * (1 - 0.5 * runtime.chance.random()))


async def _write(runtime: Runtime, statement: Any, partner_id: UUID, **values: Any) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(statement, {"partner_id": partner_id, **values})

    await in_transaction(runtime.engine, work)
