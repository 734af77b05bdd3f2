"""Asking M-Pesa, by the clock, which payments a pay bill took: what no confirmation told of is found and booked."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja import DarajaClient
from vault_core.clients.daraja_pull import PullQuestion, in_words
from vault_core.collections.feed_health import Swept, note_failure, note_lost, note_sweep
from vault_core.collections.pull_answers import book_page, keep_answer
from vault_core.collections.pull_rules import Plan, Window, plan_sweep
from vault_core.database import in_transaction
from vault_core.errors import RemoteBusy, VaultError
from vault_core.outcome import Accepted
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_FEEDS_AT_ONCE = 8
_MOST_PAGES = 10_000  # of one window: a server that always has another row ends here
_LONGEST_WAIT = timedelta(hours=1)  # between tries while M-Pesa does not answer
# Until then a sweep belongs to one worker. Two at once would ask twice and book once.
_LEASE = timedelta(minutes=10)

_TAKE_DUE = text(
    """
    UPDATE pull_feeds SET next_sweep_at = :leased
    FROM (SELECT short_code FROM pull_feeds WHERE next_sweep_at <= :now
          ORDER BY next_sweep_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE pull_feeds.short_code = due.short_code
    RETURNING pull_feeds.short_code, partner_id, begins_at, swept_to, again_from, failures
    """
)
_SWEPT = text("UPDATE pull_feeds SET swept_to = greatest(swept_to, :swept_to) WHERE short_code = :short_code")
# What somebody wished meanwhile is still to be read; what was wished before is, as far back as the pay bill and M-Pesa reach.
_DONE = text(
    """
    UPDATE pull_feeds SET failures = 0, last_failure = NULL, next_sweep_at = :next_at,
           again_from = CASE WHEN again_from < :start AND again_from IS DISTINCT FROM :wished THEN again_from END
    WHERE short_code = :short_code
    """
)
_FAILED = text(
    """
    UPDATE pull_feeds SET failures = failures + 1, last_failure = :cause, next_sweep_at = :next_at WHERE short_code = :short_code
    """
)


@dataclass(frozen=True, slots=True)
class _Feed:
    short_code: str
    partner_id: UUID
    begins_at: datetime
    swept_to: datetime
    again_from: datetime | None
    failures: int


async def sweep_pulls(runtime: Runtime, connections: Connections) -> int:
    """Pulls every pay bill whose sweep is due and returns how many were. Any number of workers may sweep.

    Each answer is kept before it is used, and a window counts as read when all of it is booked: cut off anywhere, it is read
    again. A pay bill that M-Pesa does not answer for holds back no other.
    """
    now = runtime.clock.now()

    async def take(connection: AsyncConnection) -> list[_Feed]:
        rows = await connection.execute(_TAKE_DUE, {"now": now, "leased": now + _LEASE, "most": _FEEDS_AT_ONCE})
        return [_Feed(*row) for row in rows]

    feeds = await in_transaction(runtime.engine, take)
    await asyncio.gather(*(_sweep(runtime, connections, feed) for feed in feeds))
    return len(feeds)


async def _sweep(runtime: Runtime, connections: Connections, feed: _Feed) -> None:
    now = runtime.clock.now()
    plan = plan_sweep(feed.begins_at, feed.swept_to, feed.again_from, now, timedelta(seconds=runtime.pace.pull_again))
    if plan.lost is not None:  # before reading on makes it forgotten
        await in_transaction(runtime.engine, partial(note_lost, runtime, feed.partner_id, feed.short_code, plan.lost))
    listed: set[str] = set()
    try:
        daraja = await connections.daraja(feed.partner_id)
        for window in plan.windows:
            listed |= await _read_window(runtime, daraja, feed, window)
            await in_transaction(runtime.engine, partial(_note_swept, feed, window))
    except VaultError as error:
        log.warning("pull failed", short_code=feed.short_code, cause=str(error))
        await in_transaction(runtime.engine, partial(_fail, runtime, feed, str(error)[:500]))
    else:
        await in_transaction(runtime.engine, partial(_finish, runtime, feed, plan, listed, now))


async def _read_window(runtime: Runtime, daraja: DarajaClient, feed: _Feed, window: Window) -> set[str]:
    """Reads and books the window and returns the receipts in it (and what could not be read, in words).

    The offset counts rows, but how many a page holds nobody documents: it ends with an empty page, or with one that repeats.
    """
    listed: set[str] = set()
    offset = 0
    for _ in range(_MOST_PAGES):
        question = PullQuestion(feed.short_code, window.start, window.end, offset)
        answer = await daraja.pull(question)
        answer_id = await keep_answer(runtime, feed.partner_id, question, answer)
        if not isinstance(answer.outcome, Accepted):
            raise RemoteBusy(in_words(answer.outcome))
        page = answer.outcome.value
        await book_page(runtime, feed.partner_id, feed.short_code, window, page, answer_id)
        rows = {payment.receipt for payment in page.payments}.union(page.unreadable)
        if rows <= listed:
            return listed
        listed |= rows
        offset += page.row_count
    raise RemoteBusy(f"the window from {window.start:%Y-%m-%d %H:%M} UTC has no end after {_MOST_PAGES} pages")


async def _note_swept(feed: _Feed, window: Window, connection: AsyncConnection) -> None:
    await connection.execute(_SWEPT, {"short_code": feed.short_code, "swept_to": window.end})


async def _finish(
    runtime: Runtime, feed: _Feed, plan: Plan, listed: set[str], now: datetime, connection: AsyncConnection
) -> None:
    following = runtime.clock.now() + timedelta(seconds=runtime.pace.pull_every)
    await connection.execute(
        _DONE, {"short_code": feed.short_code, "next_at": following, "start": plan.start, "wished": feed.again_from}
    )
    await note_sweep(connection, runtime, Swept(feed.partner_id, feed.short_code, plan.start, now, frozenset(listed)))


async def _fail(runtime: Runtime, feed: _Feed, cause: str, connection: AsyncConnection) -> None:
    every = timedelta(seconds=runtime.pace.pull_every)
    wait = min(every * (1 << min(feed.failures, 10)), max(_LONGEST_WAIT, every))
    values = {"short_code": feed.short_code, "cause": cause, "next_at": runtime.clock.now() + wait}
    await connection.execute(_FAILED, values)
    await note_failure(connection, runtime, feed.partner_id, feed.short_code, feed.failures + 1, cause)
