"""What follows once it is known whether a payment is in Mifos X: states, ledger, receipt SMS, cases. Set-wise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.collections.pending import PendingCollection
from vault_core.collections.receipts import Receipt
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.notifications.messages import write_messages
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

_POSTED = text(
    """
    UPDATE collections SET state = 'posted', posted_at = :now, reason = NULL
    WHERE id = ANY(:ids) AND state = 'posting' RETURNING id
    """
)
_RECEIPTED = text(
    """
    UPDATE collections SET new_balance_cents = told.balance, reason = told.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:balances AS bigint[]), CAST(:reasons AS text[])) AS told(id, balance, reason)
    WHERE collections.id = told.id AND state = 'posted'
    """
)
_HANDED_OVER = text(
    """
    UPDATE collections SET state = 'needs_review', reason = told.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS told(id, reason)
    WHERE collections.id = told.id AND state IN ('matching', 'posting')
    RETURNING collections.id
    """
)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A payment that a person must look into, and why. Its money stays in collected_unposted: it may be in Mifos X."""

    collection: PendingCollection
    reason: str


async def book_posted(connection: AsyncConnection, runtime: Runtime, posted: Sequence[PendingCollection]) -> None:
    """Marks payments as posted and moves their money from collected_unposted to the partner's books. Repeats do nothing."""
    if not posted:
        return
    now = runtime.clock.now()
    marked = await connection.execute(_POSTED, {"ids": [one.id for one in posted], "now": now})
    marked_ids = {row.id for row in marked}
    await post(
        connection,
        runtime,
        [
            Posting(
                partner_id=one.partner_id,
                kind="collection_posted",
                key=f"posted:{one.external_id}",
                reference=one.receipt,
                effective_at=now,
                legs=(
                    Leg(AccountRef(one.partner_id, "collected_unposted"), one.amount.cents),
                    Leg(AccountRef(one.partner_id, _book_of(one)), -one.amount.cents),
                ),
            )
            for one in posted
            if one.id in marked_ids
        ],
    )


async def write_receipts(
    connection: AsyncConnection, runtime: Runtime, receipts: Sequence[Receipt], partners: Mapping[UUID, Partner]
) -> None:
    """Notes the new balances and writes the texts of payments that are posted, each once. `partners` by collection id."""
    if not receipts:
        return
    await connection.execute(
        _RECEIPTED,
        {
            "ids": [receipt.payment.collection_id for receipt in receipts],
            "balances": [receipt.new_balance.cents for receipt in receipts],
            "reasons": [receipt.why for receipt in receipts],
        },
    )
    messages = [receipt.message(partners[receipt.payment.collection_id]) for receipt in receipts]
    await write_messages(connection, runtime, [message for message in messages if message is not None])


async def hand_over(connection: AsyncConnection, runtime: Runtime, handed: Sequence[HandedOver]) -> None:
    """Gives payments to a person, each with a case 'collection_not_posted'. Repeats do nothing."""
    if not handed:
        return
    moved = await connection.execute(
        _HANDED_OVER, {"ids": [one.collection.id for one in handed], "reasons": [one.reason[:500] for one in handed]}
    )
    moved_ids = {row.id for row in moved}
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCase(
                kind="collection_not_posted",
                subject=f"{one.collection.short_code} {one.collection.receipt}",
                partner_id=one.collection.partner_id,
                amount=one.collection.amount,
                evidence={
                    "collection": str(one.collection.id),
                    "last_answer": one.reason,
                    "account": _account_of(one.collection),
                },
            )
            for one in handed
            if one.collection.id in moved_ids
        ],
    )


def _book_of(collection: PendingCollection) -> str:
    return "loan_book" if collection.account_kind == "loan" else "savings_book"


def _account_of(collection: PendingCollection) -> str:
    return "not found yet" if collection.account_no is None else f"{collection.account_kind} {collection.account_no}"
