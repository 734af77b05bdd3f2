"""Collections on their way into Mifos X, as the services that bring them there see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.booking import reference_binding
from vault_core.collections.receipts import PostedPayment
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PendingCollection:
    """A collection and, once it is matched, its intended posting."""

    id: UUID
    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    state: str
    account_kind: str | None
    account_id: int | None
    account_no: str | None
    client_id: int | None
    posting_id: UUID | None
    external_id: str | None
    bill_reference: str = field(repr=False)  # as typed

    @property
    def account(self) -> tuple[UUID, str | None, int | None]:
        """What two postings must not write to at once: Mifos X answers the slower one with a conflict."""
        return (self.partner_id, self.account_kind, self.account_id)

    def posted_payment(self) -> PostedPayment:
        """The same as a payment that is in Mifos X. Only for a matched one."""
        if self.account_kind is None or self.account_id is None or self.account_no is None:
            raise ValueError(f"collection {self.id} has no account")
        return PostedPayment(
            collection_id=self.id,
            short_code=self.short_code,
            receipt=self.receipt,
            amount=self.amount,
            account_kind=self.account_kind,
            account_id=self.account_id,
            account_no=self.account_no,
            client_id=self.client_id,
        )


_LOAD = text(
    """
    SELECT collections.id, collections.partner_id, short_code, collections.receipt, collections.amount_cents, happened_at,
           collections.state, account_kind, collections.account_id, account_no, client_id, bill_reference_sealed,
           core_postings.id AS posting_id, external_id
    FROM collections
    LEFT JOIN core_postings ON core_postings.subject_id = collections.id AND core_postings.kind IN ('repayment', 'deposit')
    WHERE collections.id = ANY(:ids) ORDER BY collections.id
    """
)


async def load_pending(connection: AsyncConnection, runtime: Runtime, ids: Sequence[UUID]) -> dict[UUID, PendingCollection]:
    """Those of the collections `ids` that exist, in whatever state, by id."""
    return {row.id: _pending(runtime, row) for row in await connection.execute(_LOAD, {"ids": list(ids)})}


def _pending(runtime: Runtime, row: Row[Any]) -> PendingCollection:
    return PendingCollection(
        id=row.id,
        partner_id=row.partner_id,
        short_code=row.short_code,
        receipt=row.receipt,
        amount=Money(row.amount_cents),
        happened_at=row.happened_at,
        state=row.state,
        account_kind=row.account_kind,
        account_id=row.account_id,
        account_no=row.account_no,
        client_id=row.client_id,
        posting_id=row.posting_id,
        external_id=row.external_id,
        bill_reference=runtime.sealer.open_text(row.bill_reference_sealed, bound_to=reference_binding(row.id)),
    )
