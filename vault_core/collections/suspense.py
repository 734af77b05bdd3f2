"""Money whose account is not known: in the suspense account of its partner, each payment with an open case."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases, renew_cases
from vault_core.collections.decision_rows import end_decisions
from vault_core.collections.payment_seals import reference_hash
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.runtime import Runtime

UNMATCHED_CASE = "unmatched_payment"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A payment that goes to suspense, and why. `evidence` holds no clear phone or name.

    `looked_for`: the reference whose account was looked for; None where that is not why.
    """

    collection_id: UUID
    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    reason: str
    left: str  # the state that the decision was made in: 'matching' (no account found) or 'posting' (refused)
    evidence: dict[str, Any] = field(default_factory=dict)
    looked_for: str | None = field(default=None, repr=False)
    turn: str = ""  # tells one stay in suspense from an earlier one, after which the payment was posted and moved


# A worker that comes late with a refusal must not take along a posting that a person has decided on since; nor may one that found
# no account take along a payment that has another reference by now.
_SUSPEND = text(
    """
    UPDATE collections SET state = 'suspense', in_suspense = true, reason = told.reason, post_all = false
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[]), CAST(:left AS text[]), CAST(:looked_for AS bytea[]))
         AS told(id, reason, left_state, looked_for),
         collections before
    WHERE collections.id = told.id AND before.id = told.id AND collections.state = told.left_state
          AND collections.bill_reference_hash = coalesce(told.looked_for, collections.bill_reference_hash)
          AND NOT EXISTS (SELECT FROM core_postings p WHERE p.subject_id = told.id AND p.kind IN ('repayment', 'deposit')
                          AND p.state NOT IN ('refused', 'undone'))
    RETURNING collections.id, before.in_suspense AS was_there
    """
)


async def put_in_suspense(connection: AsyncConnection, runtime: Runtime, unplaced: Sequence[Unplaced]) -> set[UUID]:
    """Moves payments from collected_unposted to suspense and opens their cases, in the caller's transaction. Repeats do nothing.

    Only for money that is certainly not posted in Mifos X. Returns the collections that were moved: one that another worker has
    taken further meanwhile, and may be posting now, is left alone. What was assigned by a person and refused, or looked for anew
    in vain, is in suspense still, with its case, which says now why; a decision ends as failed.
    """
    if not unplaced:
        return set()
    rows = await connection.execute(
        _SUSPEND,
        {
            "ids": [one.collection_id for one in unplaced],
            "reasons": [one.reason[:500] for one in unplaced],
            "left": [one.left for one in unplaced],
            "looked_for": [
                None if one.looked_for is None else reference_hash(runtime.sealer, one.looked_for) for one in unplaced
            ],
        },
    )
    moved = {row.id: row.was_there for row in rows}
    await end_decisions(
        connection, runtime, {one.collection_id: one.reason for one in unplaced if one.collection_id in moved}, "failed"
    )
    await take_in(connection, runtime, [one for one in unplaced if moved.get(one.collection_id) is False])
    looked_anew = [one for one in unplaced if moved.get(one.collection_id) and one.left == "matching"]
    await renew_cases(connection, [_case(one) for one in looked_anew])
    return set(moved)


async def take_in(connection: AsyncConnection, runtime: Runtime, unplaced: Sequence[Unplaced]) -> None:
    """Moves the money of payments whose rows say so already from collected_unposted to suspense, and opens their cases."""
    now = runtime.clock.now()
    await post(
        connection,
        runtime,
        [
            Posting(
                partner_id=one.partner_id,
                kind="suspense",
                key=f"suspense:{one.collection_id}{one.turn}",
                reference=one.receipt,
                effective_at=now,
                legs=(
                    Leg(AccountRef(one.partner_id, "collected_unposted"), one.amount.cents),
                    Leg(AccountRef(one.partner_id, "suspense"), -one.amount.cents),
                ),
            )
            for one in unplaced
        ],
    )
    await open_unmatched(connection, runtime, unplaced)


async def open_unmatched(connection: AsyncConnection, runtime: Runtime, unplaced: Sequence[Unplaced]) -> None:
    """Opens the case of each payment in suspense."""
    await open_cases(connection, runtime.clock, runtime.new_id, [_case(one) for one in unplaced])


def _case(one: Unplaced) -> NewCase:
    return NewCase(
        kind=UNMATCHED_CASE,
        subject=f"{one.short_code} {one.receipt}",
        partner_id=one.partner_id,
        amount=one.amount,
        evidence={"collection": str(one.collection_id), "reason": one.reason, **one.evidence},
    )
