"""Collections on their way into Mifos X, as the services that bring them there see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.payment_seals import reference_binding
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class LivingPosting:
    """A posting of a collection that is intended, under way or made: neither refused nor undone."""

    id: UUID
    kind: str  # 'repayment' or 'deposit'
    account_id: int
    amount: Money
    external_id: str
    state: str
    tries: int

    @property
    def account_kind(self) -> str:
        """'loan' or 'savings'."""
        return "loan" if self.kind == "repayment" else "savings"

    @property
    def untouched(self) -> bool:
        """Whether no call was ever made for it."""
        return self.state in ("intended", "unknown") and self.tries == 0


@dataclass(frozen=True, slots=True)
class PendingCollection:
    """A collection and, once it is matched, its living postings, the first one first: two when savings take what is not owed.

    `refusal`: what Mifos X answered to the last posting that it refused. `entered`: its receipt was entered there by hand, as web
    hooks told (entered_by_hand.py).
    """

    id: UUID
    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    state: str
    in_suspense: bool
    post_all: bool
    account_kind: str | None
    account_id: int | None
    account_no: str | None
    client_id: int | None
    postings: tuple[LivingPosting, ...]
    refusal: str | None
    entered: bool
    bill_reference: str = field(repr=False)  # as typed

    @property
    def account(self) -> tuple[UUID, str | None, int | None]:
        """What two postings must not write to at once: Mifos X answers the slower one with a conflict."""
        return (self.partner_id, self.account_kind, self.account_id)

    @property
    def account_words(self) -> str:
        """The account it is for, for a person."""
        return "not found yet" if self.account_no is None else f"{self.account_kind} {self.account_no}"

    @property
    def subject(self) -> str:
        """Its name in cases and in the audit trail."""
        return f"{self.short_code} {self.receipt}"

    @property
    def unposted(self) -> Money:
        """What no living posting covers."""
        return self.amount - Money(sum(posting.amount.cents for posting in self.postings))


_LOAD = text(
    """
    SELECT c.id, c.partner_id, c.short_code, c.receipt, c.amount_cents, c.happened_at, c.state, c.in_suspense, c.post_all,
           c.account_kind, c.account_id, c.account_no, c.client_id, c.bill_reference_sealed,
           p.postings, p.refusal,
           EXISTS (SELECT FROM core_payments k
                   WHERE k.partner_id = c.partner_id AND k.receipt = c.receipt AND k.undone_at IS NULL) AS entered
    FROM collections c
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(id, kind, account_id, amount_cents, external_id, state, tries)
                         ORDER BY length(external_id), external_id)
                   FILTER (WHERE state NOT IN ('refused', 'undone')) AS postings,
               (array_agg(last_answer ORDER BY length(external_id) DESC, external_id DESC)
                   FILTER (WHERE state = 'refused'))[1] AS refusal
        FROM core_postings WHERE subject_id = c.id AND kind IN ('repayment', 'deposit')) p
    WHERE c.id = ANY(:ids) ORDER BY c.id
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
        in_suspense=row.in_suspense,
        post_all=row.post_all,
        account_kind=row.account_kind,
        account_id=row.account_id,
        account_no=row.account_no,
        client_id=row.client_id,
        postings=tuple(_posting(*values) for values in row.postings or ()),
        refusal=row.refusal,
        entered=row.entered,
        bill_reference=runtime.sealer.open_text(row.bill_reference_sealed, bound_to=reference_binding(row.id)),
    )


def _posting(posting_id: str, kind: str, account_id: int, cents: int, external_id: str, state: str, tries: int) -> LivingPosting:
    return LivingPosting(UUID(posting_id), kind, account_id, Money(cents), external_id, state, tries)
