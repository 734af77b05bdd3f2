"""Money whose account is not known: in the suspense account of its partner, each payment with an open case."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.runtime import Runtime

UNMATCHED_CASE = "unmatched_payment"
_KEPT_SHORT = 4


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A payment that goes to suspense, and why. `evidence` holds no clear phone or name."""

    collection_id: UUID
    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    reason: str
    left: str  # the state that the decision was made in: 'matching' (no account found) or 'posting' (refused)
    evidence: dict[str, Any] = field(default_factory=dict)


_SUSPEND = text(
    """
    UPDATE collections SET state = 'suspense', reason = told.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[]), CAST(:left AS text[])) AS told(id, reason, left_state)
    WHERE collections.id = told.id AND state = told.left_state
    RETURNING collections.id
    """
)


async def put_in_suspense(connection: AsyncConnection, runtime: Runtime, unplaced: Sequence[Unplaced]) -> set[UUID]:
    """Moves payments from collected_unposted to suspense and opens their cases, in the caller's transaction. Repeats do nothing.

    Only for money that is certainly not posted in Mifos X. Returns the collections that were moved: one that another worker has
    taken further meanwhile, and may be posting now, is left alone.
    """
    if not unplaced:
        return set()
    moved = await connection.execute(
        _SUSPEND,
        {
            "ids": [one.collection_id for one in unplaced],
            "reasons": [one.reason[:500] for one in unplaced],
            "left": [one.left for one in unplaced],
        },
    )
    moved_ids = {row.id for row in moved}
    new = [one for one in unplaced if one.collection_id in moved_ids]
    now = runtime.clock.now()
    await post(
        connection,
        runtime,
        [
            Posting(
                partner_id=one.partner_id,
                kind="suspense",
                key=f"suspense:{one.collection_id}",
                reference=one.receipt,
                effective_at=now,
                legs=(
                    Leg(AccountRef(one.partner_id, "collected_unposted"), one.amount.cents),
                    Leg(AccountRef(one.partner_id, "suspense"), -one.amount.cents),
                ),
            )
            for one in new
        ],
    )
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCase(
                kind=UNMATCHED_CASE,
                subject=f"{one.short_code} {one.receipt}",
                partner_id=one.partner_id,
                amount=one.amount,
                evidence={"collection": str(one.collection_id), "reason": one.reason, **one.evidence},
            )
            for one in new
        ],
    )
    return moved_ids


def mask_reference(typed: str) -> str:
    """A bill reference as it may stand in a case: enough to recognise it, too little to be a phone or a name."""
    kept = " ".join(typed.split())
    return f"{kept[:1]}***{kept[-2:]}" if len(kept) > _KEPT_SHORT else "***"
