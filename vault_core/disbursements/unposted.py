"""Paid loans whose posting a person was handed: read now and then, because people post them by hand and checkers approve late."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import LoanTransaction, MifosClient
from vault_core.database import in_transaction
from vault_core.disbursements.posting import book_seen_posted
from vault_core.errors import VaultError
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.postings.posting_rows import CorePosting, mark_seen_posted, read_postings
from vault_core.postings.read_back import Found, ReadBack, Unsure, read_back
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200
_READS_AT_ONCE = 4

_TAKE_DUE = text(
    """
    UPDATE disbursements SET due_at = :next
    FROM (SELECT d.id FROM disbursements d JOIN core_postings p ON p.kind = 'disburse' AND p.subject_id = d.id
          WHERE d.state = 'needs_review' AND d.due_at <= :now
                AND NOT EXISTS (SELECT FROM outbox_outages o WHERE o.partner_id = d.partner_id AND o.topic = :mifos)
                AND p.state NOT IN ('posted', 'undone')
          ORDER BY d.due_at LIMIT :most FOR UPDATE OF d SKIP LOCKED) AS due
    WHERE disbursements.id = due.id RETURNING disbursements.id, partner_id
    """
)
_LOCK = text("SELECT FROM disbursements WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")  # before their postings, as everywhere
_REASON = text(
    """
    UPDATE disbursements SET reason = seen.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS seen(id, reason)
    WHERE disbursements.id = seen.id AND state = 'needs_review'
    """
)


@dataclass(frozen=True, slots=True)
class _Look:
    posting: CorePosting
    seen: ReadBack


async def look_for_posted(runtime: Runtime, connections: Connections) -> int:
    """Reads the loans that are due for a look and books those that are posted by now; returns how many those were.

    Posted means: under our external id, or with the M-Pesa receipt, for the amount to the cent, and not undone. Then what follows
    any posting follows, and the case is closed. Posts nothing. Any number of workers may look.
    """

    async def take(connection: AsyncConnection) -> dict[UUID, list[UUID]]:
        now = runtime.clock.now()
        following = now + timedelta(seconds=runtime.pace.unposted_look_every)
        by_partner: dict[UUID, list[UUID]] = {}
        for row in await connection.execute(_TAKE_DUE, {"now": now, "next": following, "most": _MOST, "mifos": MIFOS_TOPIC}):
            by_partner.setdefault(row.partner_id, []).append(row.id)
        return by_partner

    due = await in_transaction(runtime.engine, take)
    return sum(await asyncio.gather(*(_of_partner(runtime, connections, partner_id, ids) for partner_id, ids in due.items())))


async def _of_partner(runtime: Runtime, connections: Connections, partner_id: UUID, ids: Sequence[UUID]) -> int:
    async with runtime.engine.connect() as connection:
        postings = await read_postings(connection, runtime, "disburse", ids)
    try:
        partner = await connections.partner(partner_id)
        client = await connections.mifos(partner_id)
    except VaultError as error:
        log.warning("unposted loans not looked at", partner_id=str(partner_id), cause=str(error))
        return 0
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def one(posting: CorePosting) -> _Look | None:
        async with turns:
            return await _look(client, partner, posting)

    looks = [look for look in await asyncio.gather(*(one(posting) for posting in postings)) if look is not None]

    async def work(connection: AsyncConnection) -> int:
        unsure = [(look.posting.subject_id, look.seen.cause) for look in looks if isinstance(look.seen, Unsure)]
        await connection.execute(
            _REASON,
            {
                "ids": [subject for subject, _ in unsure],
                "reasons": [f"paid, but not posted to Mifos X: {cause}"[:500] for _, cause in unsure],
            },
        )
        return await _book(connection, runtime, [(x.posting, x.seen.transaction) for x in looks if isinstance(x.seen, Found)])

    return await in_transaction(runtime.engine, work)


async def _look(client: MifosClient, partner: Partner, posting: CorePosting) -> _Look | None:
    try:
        return _Look(posting, await read_back(client, partner.mifos_capabilities, posting))
    except VaultError as error:
        log.warning("unposted loan not looked at", loan_id=posting.account_id, cause=str(error))
        return None


async def _book(connection: AsyncConnection, runtime: Runtime, found: Sequence[tuple[CorePosting, LoanTransaction]]) -> int:
    await connection.execute(_LOCK, {"ids": [posting.subject_id for posting, _ in found]})
    marked = await mark_seen_posted(connection, runtime, [(posting.id, transaction) for posting, transaction in found])
    return await book_seen_posted(connection, runtime, [posting.subject_id for posting, _ in found if posting.id in marked])
