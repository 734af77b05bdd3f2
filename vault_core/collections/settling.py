"""What follows once it is known whether a payment is in Mifos X: states, ledger, receipt SMS, cases. Set-wise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.collections.decision_rows import end_decisions
from vault_core.collections.pending import PendingCollection
from vault_core.collections.receipts import Receipt
from vault_core.collections.suspense import UNMATCHED_CASE
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.notifications.messages import write_messages
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

NOT_POSTED_CASE = "collection_not_posted"
_BOOKS = {"repayment": "loan_book", "deposit": "savings_book"}

# From the rows as they are now: a person may have moved the payment on since the caller's answer came. It is posted when all that
# lives of its postings is made and covers it.
_POSTED = text(
    """
    UPDATE collections SET state = 'posted', posted_at = :now, reason = NULL, in_suspense = false
    FROM collections before
    JOIN LATERAL (SELECT jsonb_agg(jsonb_build_array(kind, amount_cents)) AS parts,
                         (array_agg(external_id ORDER BY length(external_id), external_id))[1] AS external_id,
                         sum(amount_cents) AS cents, bool_and(p.state = 'posted') AS made
                  FROM core_postings p WHERE p.subject_id = before.id AND p.kind IN ('repayment', 'deposit')
                  AND p.state NOT IN ('refused', 'undone')) living ON true
    WHERE collections.id = before.id AND before.id = ANY(:ids) AND collections.state = 'posting'
          AND living.made AND living.cents = collections.amount_cents
    RETURNING collections.id, collections.partner_id, collections.short_code, collections.receipt, collections.amount_cents,
              collections.account_kind, collections.account_no, before.in_suspense AS was_in_suspense,
              living.parts, living.external_id,
              EXISTS (SELECT FROM collection_decisions d
                      WHERE d.collection_id = collections.id AND d.state = 'approved') AS decided
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
    """A payment that a person must look into, and why. Its money stays where it is: it may be in Mifos X."""

    collection: PendingCollection
    reason: str


async def book_posted(connection: AsyncConnection, runtime: Runtime, collection_ids: Sequence[UUID]) -> None:
    """Marks payments as posted, moves their money to the partner's books, closes their cases. Repeats do nothing.

    The money comes from collected_unposted, or from suspense if a person had to find the account.
    """
    if not collection_ids:
        return
    now = runtime.clock.now()
    marked = (await connection.execute(_POSTED, {"ids": list(collection_ids), "now": now})).all()
    await post(
        connection,
        runtime,
        [
            Posting(
                partner_id=row.partner_id,
                kind="collection_posted",
                key=f"posted:{row.external_id}",
                reference=row.receipt,
                effective_at=now,
                legs=(
                    Leg(
                        AccountRef(row.partner_id, "suspense" if row.was_in_suspense else "collected_unposted"),
                        row.amount_cents,
                    ),
                    *_legs(row),
                ),
            )
            for row in marked
        ],
    )
    found = [row for row in marked if row.was_in_suspense or row.decided]
    for row in found:
        subject = f"{row.short_code} {row.receipt}"
        await close_cases(
            connection,
            runtime.clock,
            [(UNMATCHED_CASE, subject), (NOT_POSTED_CASE, subject)],
            resolution=f"posted to {row.account_kind} {row.account_no}",
        )
    await end_decisions(connection, runtime, {row.id: f"posted to {row.account_kind} {row.account_no}" for row in found}, "done")


def _legs(row: Row[Any]) -> list[Leg]:
    """What each book takes: a book once, however many postings it has."""
    taken: dict[str, int] = {}
    for kind, cents in row.parts:
        taken[_BOOKS[kind]] = taken.get(_BOOKS[kind], 0) + cents
    return [Leg(AccountRef(row.partner_id, book), -cents) for book, cents in sorted(taken.items())]


async def write_receipts(
    connection: AsyncConnection, runtime: Runtime, receipts: Sequence[Receipt], partners: Mapping[UUID, Partner]
) -> None:
    """Notes the new balances and writes the texts of payments that are posted, each once. `partners` by collection id."""
    if not receipts:
        return
    await connection.execute(
        _RECEIPTED,
        {
            "ids": [receipt.collection_id for receipt in receipts],
            "balances": [None if receipt.new_balance is None else receipt.new_balance.cents for receipt in receipts],
            "reasons": [receipt.why for receipt in receipts],
        },
    )
    messages = [receipt.message(partners[receipt.collection_id]) for receipt in receipts]
    await write_messages(connection, runtime, [message for message in messages if message is not None])


async def hand_over(connection: AsyncConnection, runtime: Runtime, handed: Sequence[HandedOver]) -> None:
    """Gives payments to a person, each with a case 'collection_not_posted'. Repeats do nothing.

    What was being carried out about them ends as failed: from here on people decide anew.
    """
    if not handed:
        return
    moved = await connection.execute(
        _HANDED_OVER, {"ids": [one.collection.id for one in handed], "reasons": [one.reason[:500] for one in handed]}
    )
    moved_ids = {row.id for row in moved}
    unclear = {one.collection.id: f"handed to a person: {one.reason}" for one in handed if one.collection.id in moved_ids}
    await end_decisions(connection, runtime, unclear, "failed")
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [not_posted_case(one) for one in handed if one.collection.id in moved_ids],
    )


def not_posted_case(handed: HandedOver) -> NewCase:
    """The case of a payment that only a person can bring further."""
    one = handed.collection
    evidence = {"collection": str(one.id), "last_answer": handed.reason, "account": one.account_words}
    made = Money(sum(posting.amount.cents for posting in one.postings if posting.state == "posted"))
    if made:
        evidence["in_mifos"] = str(made)
    return NewCase(NOT_POSTED_CASE, one.subject, one.partner_id, one.amount, evidence)
