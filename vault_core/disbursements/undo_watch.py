"""Postings whose payment was taken back (taking_back.py): the loans are read until Mifos X shows them without it."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import close_case
from vault_core.clients.mifos import LoanTransaction, MifosClient
from vault_core.database import in_transaction
from vault_core.disbursements.taking_back import TO_BE_UNDONE, to_be_undone
from vault_core.errors import VaultError
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200
_READS_AT_ONCE = 4

_TAKE_DUE = text(
    """
    UPDATE core_postings SET undo_look_at = :next
    FROM (SELECT id FROM core_postings p WHERE undo_look_at <= :now
                 AND NOT EXISTS (SELECT FROM outbox_outages o WHERE o.partner_id = p.partner_id AND o.topic = :mifos)
          ORDER BY undo_look_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE core_postings.id = due.id
    RETURNING core_postings.id, partner_id, subject_id, account_id, external_id, receipt, undone
    """
)
_SEEN = text("UPDATE core_postings SET undo_look_at = NULL WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class _Posting:
    id: UUID
    partner_id: UUID
    subject_id: UUID
    account_id: int
    external_id: str
    receipt: str
    undone: tuple[int, ...]

    def stands_in(self, transactions: Iterable[LoanTransaction]) -> bool:
        """Whether one of the loan's transactions is this posting and was not undone."""
        return any(
            each.external_id == self.external_id or (each.receipt == self.receipt and each.kind == "disbursement")
            for each in transactions
            if not each.reversed and each.id not in self.undone
        )


async def look_for_undone(runtime: Runtime, connections: Connections) -> int:
    """Reads the loans that are due for a look; closes the case of each that no longer has the posting, and returns how many.

    Writes nothing to Mifos X. Any number of workers may look.
    """

    async def take(connection: AsyncConnection) -> list[_Posting]:
        now = runtime.clock.now()
        following = now + timedelta(seconds=runtime.pace.unposted_look_every)
        rows = await connection.execute(_TAKE_DUE, {"now": now, "next": following, "most": _MOST, "mifos": MIFOS_TOPIC})
        return [
            _Posting(row.id, row.partner_id, row.subject_id, row.account_id, row.external_id, row.receipt, tuple(row.undone))
            for row in rows
        ]

    by_partner: dict[UUID, list[_Posting]] = {}
    for posting in await in_transaction(runtime.engine, take):
        by_partner.setdefault(posting.partner_id, []).append(posting)
    looks = [_of_partner(runtime, connections, partner_id, mine) for partner_id, mine in by_partner.items()]
    return sum(await asyncio.gather(*looks))


async def _of_partner(runtime: Runtime, connections: Connections, partner_id: UUID, postings: Sequence[_Posting]) -> int:
    try:
        client = await connections.mifos(partner_id)
    except VaultError as error:
        log.warning("undone postings not looked at", partner_id=str(partner_id), cause=str(error))
        return 0
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def one(posting: _Posting) -> bool:
        async with turns:
            return await _is_gone(client, posting)

    gone = [posting for posting, its in zip(postings, await asyncio.gather(*map(one, postings)), strict=True) if its]

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_SEEN, {"ids": [posting.id for posting in gone]})
        for posting in gone:
            await close_case(
                connection,
                runtime.clock,
                kind=TO_BE_UNDONE,
                subject=to_be_undone(posting.subject_id, posting.receipt),
                resolution=f"Mifos X has loan {posting.account_id} without it",
            )

    if gone:
        await in_transaction(runtime.engine, work)
    return len(gone)


async def _is_gone(client: MifosClient, posting: _Posting) -> bool:
    try:
        return not posting.stands_in((await client.loan(posting.account_id)).transactions)
    except VaultError as error:
        log.warning("undone posting not looked at", loan_id=posting.account_id, cause=str(error))
        return False
