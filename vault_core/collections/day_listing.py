"""The payments of a partner's day, page by page, for the partner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import day_bounds
from vault_core.collections.masking import mask_reference
from vault_core.collections.payment_seals import phone_told, reference_binding
from vault_core.money import Money
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class TakenPayment:
    """A payment that came in. Reference and phone are masked; `request_id` is of the prompt that it answered, if one did."""

    id: UUID
    receipt: str
    amount: Money
    happened_at: datetime
    state: str
    source: str
    reference: str
    phone: str | None
    account_kind: str | None
    account_no: str | None
    posted_at: datetime | None
    request_id: UUID | None


_OF_DAY = text(
    """
    SELECT c.id, c.receipt, c.amount_cents, c.happened_at, c.state, c.source, c.bill_reference_sealed, c.payer_phone_sealed,
           c.account_kind, c.account_no, c.posted_at,
           (SELECT r.id FROM stk_requests r
            WHERE r.partner_id = c.partner_id AND r.short_code = c.short_code AND r.receipt = c.receipt
            ORDER BY r.id LIMIT 1) AS request_id
    FROM collections c
    WHERE c.partner_id = :partner_id AND c.happened_at >= :start AND c.happened_at < :end
          AND (CAST(:after_at AS timestamptz) IS NULL OR (c.happened_at, c.id) > (:after_at, CAST(:after_id AS uuid)))
    ORDER BY c.happened_at, c.id LIMIT :most
    """
)


async def list_taken_payments(
    connection: AsyncConnection,
    runtime: Runtime,
    partner_id: UUID,
    day: date,
    *,
    after: tuple[datetime, UUID] | None = None,
    most: int,
) -> Sequence[TakenPayment]:
    """The partner's payments that happened on `day` in Nairobi, the oldest first, at most `most`; those `after` a time and id.

    A payment that is told late takes its place by when it happened, so a day that was read may grow.
    """
    start, end = day_bounds(day)
    at, number = (None, None) if after is None else after
    rows = await connection.execute(
        _OF_DAY, {"partner_id": partner_id, "start": start, "end": end, "after_at": at, "after_id": number, "most": most}
    )
    found = []
    for row in rows:
        phone = phone_told(runtime.sealer, row.id, row.payer_phone_sealed)
        reference = runtime.sealer.open_text(row.bill_reference_sealed, bound_to=reference_binding(row.id))
        found.append(
            TakenPayment(
                id=row.id,
                receipt=row.receipt,
                amount=Money(row.amount_cents),
                happened_at=row.happened_at,
                state=row.state,
                source=row.source,
                reference=mask_reference(reference),
                phone=None if phone is None else mask_phone(phone),
                account_kind=row.account_kind,
                account_no=row.account_no,
                posted_at=row.posted_at,
                request_id=row.request_id,
            )
        )
    return found
