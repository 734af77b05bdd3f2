"""Payments for people: where each stands, how old that is, and who has its case."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.masking import mask_reference
from vault_core.collections.payment_seals import reference_binding
from vault_core.collections.settling import NOT_POSTED_CASE
from vault_core.collections.suspense import UNMATCHED_CASE
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.runtime import Runtime

STATES = ("matching", "posting", "posted", "suspense", "needs_review", "reversing", "reversed")
_OPEN = ("matching", "posting", "suspense", "needs_review", "reversing")


@dataclass(frozen=True, slots=True)
class ListedCollection:
    """A payment. `reference` is masked. `case_since`, `owner`, `candidates` are of its open case 'unmatched_payment', if any."""

    partner: str
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    state: str
    in_suspense: bool
    reason: str | None
    reference: str
    account: str | None
    waits_for: str | None  # what one person proposed, that a second one must agree to
    case_since: datetime | None
    owner: str | None
    candidates: tuple[dict[str, Any], ...]  # the best first


_LIST = text(
    """
    SELECT c.id, p.name, c.short_code, c.receipt, c.amount_cents, c.happened_at, c.state, c.in_suspense,
           coalesce(c.reason, o.last_cause) AS reason, c.bill_reference_sealed,
           c.account_kind || ' ' || c.account_no AS account, k.opened_at, k.owner, k.evidence,
           d.proposed_by || ' proposed to ' || d.kind || ' it' AS waits_for
    FROM collections c JOIN partners p ON p.id = c.partner_id
    LEFT JOIN outbox o ON o.kind = 'collection.post' AND o.subject = c.id::text
    LEFT JOIN LATERAL (SELECT opened_at, owner, evidence FROM cases
                       WHERE kind = ANY(:case_kinds) AND closed_at IS NULL AND subject = c.short_code || ' ' || c.receipt
                       ORDER BY owner IS NULL, opened_at LIMIT 1) k ON true
    LEFT JOIN collection_decisions d ON d.collection_id = c.id AND d.state = 'proposed'
    WHERE c.state = ANY(:states) AND (CAST(:partner AS text) IS NULL OR p.name = :partner)
          AND (CAST(:receipt AS text) IS NULL OR c.receipt = :receipt)
          AND c.happened_at <= coalesce(CAST(:until AS timestamptz), 'infinity')
    ORDER BY c.happened_at, c.id LIMIT :most
    """
)


async def list_collections(
    connection: AsyncConnection,
    runtime: Runtime,
    *,
    partner: str | None = None,
    state: str | None = None,
    older_than: timedelta = timedelta(0),
    receipt: str | None = None,
    most: int = 500,
) -> list[ListedCollection]:
    """The oldest `most` payments that are not over, or of one `state` or `receipt`. Raises InvalidInput for an unknown state."""
    if state is not None and state not in STATES:
        raise InvalidInput(f"there is no state {state[:20]!r} of a payment; there are {', '.join(STATES)}")
    states = [state] if state is not None else list(_OPEN if receipt is None else STATES)
    until = runtime.clock.now() - older_than if older_than else None
    values = {"partner": partner, "states": states, "until": until, "receipt": receipt, "most": most}
    rows = await connection.execute(_LIST, {**values, "case_kinds": [UNMATCHED_CASE, NOT_POSTED_CASE]})
    return [
        ListedCollection(
            partner=row.name,
            short_code=row.short_code,
            receipt=row.receipt,
            amount=Money(row.amount_cents),
            happened_at=row.happened_at,
            state=row.state,
            in_suspense=row.in_suspense,
            reason=row.reason,
            reference=mask_reference(runtime.sealer.open_text(row.bill_reference_sealed, bound_to=reference_binding(row.id))),
            account=row.account,
            waits_for=row.waits_for,
            case_since=row.opened_at,
            owner=row.owner,
            candidates=tuple((row.evidence or {}).get("candidates") or ()),
        )
        for row in rows
    ]
