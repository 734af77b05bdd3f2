"""Finding approved loans: by polling every partner that is due, and by the hooks of Mifos X. Both end in one insert."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import ApprovedLoan, LoanPage, MifosClient
from vault_core.database import in_transaction
from vault_core.disbursements.found_loans import insert_found, new_ones, those_readable
from vault_core.disbursements.hooks import handle_mifos_events
from vault_core.disbursements.lender_calendars import with_closed_days
from vault_core.disbursements.sealed_credentials import note_opened, note_sealed
from vault_core.disbursements.tranches import APPROVED
from vault_core.disbursements.undone_disbursals import note_not_approved
from vault_core.errors import SealBroken, VaultError
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.partners.products import refresh_products
from vault_core.runtime import Runtime

__all__ = ["PAGE", "PollReport", "handle_mifos_events", "poll_due"]

log = structlog.get_logger(__name__)

_READINGS = 3
PAGE = 100  # of loans; always stated, because a server that is not told sends all of them
_PAGES_AT_ONCE = 4
_PARTNERS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PollReport:
    """One poll of one partner: approved loans seen, new ones among them, or why it failed."""

    partner_name: str
    approved: int
    found: int
    error: str | None


_TAKE_DUE = text(
    """
    UPDATE partners SET next_poll_at = :next, last_poll_at = :now
    FROM (SELECT id FROM partners WHERE next_poll_at <= :now AND state <> 'paused' ORDER BY next_poll_at
          FOR UPDATE SKIP LOCKED) AS due
    WHERE partners.id = due.id RETURNING partners.id, partners.name
    """
)
_RECORD = text("UPDATE partners SET last_poll_error = :error WHERE id = :id")


async def poll_due(runtime: Runtime, connections: Connections) -> list[PollReport]:
    """Polls the Mifos X of every partner that is due, several at once, and plans each one's next poll.

    The loan products are read with it, so that loans of one that is no longer active there are held.

    A partner's failure is its own: it is recorded (`partners.last_poll_error`) and reported, and the others go on. Two pollers at
    once share the partners between them.
    """

    async def take(connection: AsyncConnection) -> Sequence[Row[Any]]:
        now = runtime.clock.now()
        next_poll = now + timedelta(seconds=runtime.pace.poll_every)
        return (await connection.execute(_TAKE_DUE, {"now": now, "next": next_poll})).all()

    due = await in_transaction(runtime.engine, take)
    turns = asyncio.Semaphore(_PARTNERS_AT_ONCE)

    async def one(partner_id: UUID, name: str) -> PollReport:
        async with turns:
            return await _poll(runtime, connections, partner_id, name)

    return await asyncio.gather(*(one(row.id, row.name) for row in due))


async def _poll(runtime: Runtime, connections: Connections, partner_id: UUID, name: str) -> PollReport:
    loans: list[ApprovedLoan] = []
    found, error, read_at = 0, None, runtime.clock.now()
    sealed: SealBroken | None = None
    try:
        partner = await connections.partner(partner_id)
        client = await connections.mifos(partner_id)
        await refresh_products(runtime, connections, partner)
        read_at = runtime.clock.now()
        loans, unreadable = await _all_approved(client, partner)
        found, more = await _take_in(runtime, connections, partner_id, loans, read_at)
        if unreadable := [*unreadable, *more]:
            error = f"{len(unreadable)} approved loans could not be read and are not paid: {'; '.join(unreadable)}"[:1000]
    except VaultError as failure:
        sealed = failure if isinstance(failure, SealBroken) else None
        error = f"{type(failure).__name__}: {failure}"[:1000]
        log.warning("poll failed", partner=name, cause=error)

    async def record(connection: AsyncConnection) -> None:
        await connection.execute(_RECORD, {"id": partner_id, "error": error})
        if sealed is not None:
            await note_sealed(connection, runtime, partner_id, sealed)
        else:
            await note_opened(connection, runtime, partner_id)
        if error is None:
            await note_not_approved(connection, partner_id, [loan.id for loan in loans], read_at)

    await in_transaction(runtime.engine, record)
    return PollReport(name, len(loans), found, error)


async def _all_approved(client: MifosClient, partner: Partner) -> tuple[list[ApprovedLoan], list[str]]:
    """All approved loans, and what of them could not be read.

    The set shrinks while it is read, because loans are disbursed all the time: a loan can slip past an offset that is read later.
    Where that may have happened the pages are read again; what then is still missing the next poll finds.
    """
    loans: dict[int, ApprovedLoan] = {}
    unreadable: dict[str, None] = {}
    for _ in range(_READINGS):
        pages = await _pages(client, partner)
        # An old server ignores a filter that it does not know and sends loans of every state.
        loans |= {loan.id: loan for page in pages for loan in page.loans if loan.status_id == APPROVED}
        unreadable |= {words: None for page in pages for words in page.unreadable}
        if not may_have_slipped(pages):
            break
    return list(loans.values()), list(unreadable)


async def _pages(client: MifosClient, partner: Partner) -> list[LoanPage]:
    first = await client.approved_loans(partner.mifos_capabilities, offset=0, limit=PAGE)
    turns = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def page(offset: int) -> LoanPage:
        async with turns:
            return await client.approved_loans(partner.mifos_capabilities, offset=offset, limit=PAGE)

    return [first, *await asyncio.gather(*(page(offset) for offset in range(PAGE - 1, first.total - 1, PAGE - 1)))]


def may_have_slipped(pages: Sequence[LoanPage]) -> bool:
    """Whether a loan that was approved all the while may be on none of the pages.

    They are in the order of ids, and each begins with the last row of the one before it: so one may have slipped where a full
    page is followed by one that does not reach back to its end, or where more has come after the last page.
    """
    after_last = (len(pages) - 1) * (PAGE - 1) + len(pages[-1].ids)
    return after_last < pages[-1].total or any(
        len(page.ids) >= PAGE and not (following.ids and following.ids[0] <= page.ids[-1]) for page, following in pairwise(pages)
    )


async def _take_in(
    runtime: Runtime, connections: Connections, partner_id: UUID, loans: Sequence[ApprovedLoan], read_at: datetime
) -> tuple[int, list[str]]:
    """How many were taken in, and what of the others could not be read."""
    client = await connections.mifos(partner_id)

    async def unknown(connection: AsyncConnection) -> list[ApprovedLoan]:
        return await new_ones(connection, runtime, partner_id, loans, read_at=read_at)

    new = await in_transaction(runtime.engine, unknown) if loans else []
    found = 0
    unreadable: list[str] = []
    for start in range(0, len(new), PAGE):
        readable, failed = await those_readable(client, new[start : start + PAGE])
        readable = await with_closed_days(runtime, connections, partner_id, readable)
        unreadable += failed

        async def insert(connection: AsyncConnection, part: Any = readable) -> dict[int, UUID]:
            return await insert_found(connection, runtime, partner_id, part, "poll")

        found += len(await in_transaction(runtime.engine, insert))
    return found, unreadable
