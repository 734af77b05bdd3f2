"""One disbursement as its partner sees it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import NotFound
from vault_core.money import Money
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PartnerPayout:
    """`payout` is what the client is sent, `principal` the loan's amount. `phone` is masked."""

    id: UUID
    loan_id: int
    loan_account_no: str
    tranche: int
    payout: Money
    principal: Money
    state: str
    held_for: str | None
    phone: str | None
    receipt: str | None
    detected_at: datetime
    paid_at: datetime | None
    posted_at: datetime | None


_ONE = text(
    """
    SELECT id, loan_id, loan_account_no, tranche, payout_cents, principal_cents, state, held_for, phone_sealed, receipt,
           detected_at, paid_at, posted_at
    FROM disbursements WHERE id = :id AND partner_id = :partner_id
    """
)


async def load_partner_payout(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, disbursement_id: UUID
) -> PartnerPayout:
    """The partner's disbursement. Raises NotFound, for another partner's too."""
    row = (await connection.execute(_ONE, {"id": disbursement_id, "partner_id": partner_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no disbursement {disbursement_id}")
    phone = None
    if row.phone_sealed is not None:
        phone = mask_phone(runtime.sealer.open_text(row.phone_sealed, bound_to=f"disbursements:{row.id}:phone_sealed"))
    return PartnerPayout(
        id=row.id,
        loan_id=row.loan_id,
        loan_account_no=row.loan_account_no,
        tranche=row.tranche,
        payout=Money(row.payout_cents),
        principal=Money(row.principal_cents),
        state=row.state,
        held_for=row.held_for,
        phone=phone,
        receipt=row.receipt,
        detected_at=row.detected_at,
        paid_at=row.paid_at,
        posted_at=row.posted_at,
    )
