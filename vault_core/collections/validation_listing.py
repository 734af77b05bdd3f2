"""What M-Pesa was told when it asked whether a payment may be taken, for people."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class KeptValidation:
    """One answer that was not a plain yes. `reference` is masked; `event_id` is the delivery that asked."""

    event_id: UUID
    partner: str
    at: datetime
    decision: str  # 'accepted' or 'refused'
    known: bool
    code: str
    reason: str
    short_code: str | None
    receipt: str | None
    amount: Money | None
    reference: str | None


_LIST = text(
    """
    SELECT v.event_id, partners.name, v.at, decision, known, code, v.reason, short_code, receipt, amount_cents, reference_masked
    FROM payment_validations v JOIN partners ON partners.id = v.partner_id
    WHERE (late OR NOT EXISTS (SELECT FROM payment_validations told WHERE told.event_id = v.event_id AND told.late))
      AND (CAST(:partner AS text) IS NULL OR partners.name = :partner) AND (NOT :refused_only OR decision = 'refused')
      AND CASE WHEN CAST(:receipt AS text) IS NULL THEN v.at >= :since ELSE receipt = :receipt END
    ORDER BY v.at DESC, v.event_id DESC LIMIT :most
    """
)


async def list_validations(
    connection: AsyncConnection,
    *,
    since: datetime,
    partner: str | None = None,
    refused_only: bool = False,
    receipt: str | None = None,
    most: int = 500,
) -> list[KeptValidation]:
    """The newest `most` answers since `since`, or those about `receipt`, that were no plain yes."""
    wanted = {"since": since, "partner": partner, "refused_only": refused_only, "receipt": receipt, "most": most}
    return [
        KeptValidation(
            event_id=row.event_id,
            partner=row.name,
            at=row.at,
            decision=row.decision,
            known=row.known,
            code=row.code,
            reason=row.reason,
            short_code=row.short_code,
            receipt=row.receipt,
            amount=None if row.amount_cents is None else Money(row.amount_cents),
            reference=row.reference_masked,
        )
        for row in await connection.execute(_LIST, wanted)
    ]
