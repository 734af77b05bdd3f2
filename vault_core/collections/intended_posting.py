"""The postings of a payment to Mifos X, written with the decision that they follow from and before they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos_values import FoundAccount
from vault_core.clock import business_day
from vault_core.collections.booking import COLLECTION_CALL
from vault_core.collections.pending import PendingCollection
from vault_core.money import Money
from vault_core.outbox.calls import begin_anew
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Target:
    """The account that a person chose. `not_before`: no transaction of it may be dated earlier (a loan's disbursement)."""

    kind: str  # 'loan' or 'savings'
    id: int
    account_no: str
    client_id: int | None
    not_before: date | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.account_no}"


@dataclass(frozen=True, slots=True)
class NewPosting:
    """One posting to write."""

    collection: PendingCollection
    account_kind: str
    account_id: int
    amount: Money
    day: date


_MATCHED = text(
    """
    UPDATE collections SET state = 'posting', account_kind = told.kind, account_id = told.account_id,
           account_no = told.account_no, client_id = told.client_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:account_ids AS bigint[]), CAST(:account_nos AS text[]),
                CAST(:client_ids AS bigint[])) AS told(id, kind, account_id, account_no, client_id)
    WHERE collections.id = told.id AND state = 'matching'
    RETURNING collections.id
    """
)
# The first external id of a payment is the same whatever database booked the receipt: Mifos X itself then refuses to post it
# twice. A reversal burns it there (reference/fineract.md section 11.3), so each further posting has a number.
# What the account holds of the payment by then carries its receipt too, and is not this posting: it is never taken for it.
_INTEND = text(
    """
    INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt, amount_cents,
                               transaction_date, created_at, undone)
    SELECT new.id, new.partner_id, new.kind, new.subject_id, new.account_id,
           new.name || coalesce('-' || (SELECT nullif(count(*), 0) + 1 FROM core_postings p
                                        WHERE p.subject_id = new.subject_id), ''),
           new.key, new.receipt, new.amount, new.day, :now,
           ARRAY(SELECT p.mifos_transaction_id FROM core_postings p
                 WHERE p.subject_id = new.subject_id AND p.kind = new.kind AND p.account_id = new.account_id
                       AND p.mifos_transaction_id IS NOT NULL)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:subject_ids AS uuid[]),
                CAST(:account_ids AS bigint[]), CAST(:names AS text[]), CAST(:keys AS text[]), CAST(:receipts AS text[]),
                CAST(:amounts AS bigint[]), CAST(:days AS date[]))
         AS new(id, partner_id, kind, subject_id, account_id, name, key, receipt, amount, day)
    """
)
_ASSIGNED = text(
    """
    UPDATE collections SET state = 'posting', reason = NULL, account_kind = :kind, account_id = :account_id,
           account_no = :account_no, client_id = :client_id, post_all = :post_all
    WHERE id = :id AND state IN ('suspense', 'needs_review')
    """
)


async def intend_postings(
    connection: AsyncConnection, runtime: Runtime, matched: Sequence[tuple[PendingCollection, FoundAccount]]
) -> None:
    """Writes each payment's account and intended posting, in the caller's transaction. One that is matched already stays so."""
    if not matched:
        return
    taken = await connection.execute(
        _MATCHED,
        {
            "ids": [one.id for one, _ in matched],
            "kinds": [account.kind for _, account in matched],
            "account_ids": [account.id for _, account in matched],
            "account_nos": [account.account_no for _, account in matched],
            "client_ids": [account.client_id for _, account in matched],
        },
    )
    taken_ids = {row.id for row in taken}
    await write_postings(
        connection,
        runtime,
        [
            NewPosting(one, account.kind, account.id, one.amount, business_day(one.happened_at))
            for one, account in matched
            if one.id in taken_ids
        ],
    )


async def intend_assigned(
    connection: AsyncConnection, runtime: Runtime, collection: PendingCollection, target: Target, *, post_all: bool
) -> None:
    """Has what is not in Mifos X of `collection`, which the caller has locked, posted to the account that a person chose."""
    await connection.execute(
        _ASSIGNED,
        {
            "id": collection.id,
            "kind": target.kind,
            "account_id": target.id,
            "account_no": target.account_no,
            "client_id": target.client_id,
            "post_all": post_all,
        },
    )
    day = max(business_day(collection.happened_at), target.not_before or date.min)
    await write_postings(connection, runtime, [NewPosting(collection, target.kind, target.id, collection.unposted, day)])
    await begin_anew(connection, runtime.clock, COLLECTION_CALL, [collection.id])


async def write_postings(connection: AsyncConnection, runtime: Runtime, new: Sequence[NewPosting]) -> None:
    """Writes intended postings beside what was refused or undone of their payments, which the caller has locked.

    The database refuses postings that would live for more than the payment (functions/10_postings_and_decisions.sql).
    """
    if not new:
        return
    await connection.execute(
        _INTEND,
        {
            "ids": [runtime.new_id() for _ in new],
            "partner_ids": [one.collection.partner_id for one in new],
            "kinds": ["repayment" if one.account_kind == "loan" else "deposit" for one in new],
            "subject_ids": [one.collection.id for one in new],
            "account_ids": [one.account_id for one in new],
            "names": [first_external_id(one.collection.short_code, one.collection.receipt) for one in new],
            "keys": [runtime.new_id().hex for _ in new],
            "receipts": [one.collection.receipt for one in new],
            "amounts": [one.amount.cents for one in new],
            "days": [one.day for one in new],
            "now": runtime.clock.now(),
        },
    )


def first_external_id(short_code: str, receipt: str) -> str:
    """The external id of the first posting of a payment."""
    return f"pv-c2b-{short_code}-{receipt}"


def posting_number(short_code: str, receipt: str, external_id: str) -> str:
    """What tells a further posting of a payment from the first: "-2", say; empty for the first."""
    return external_id.removeprefix(first_external_id(short_code, receipt))
