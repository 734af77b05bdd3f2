"""The payments that are not in Mifos X yet, for people: on their way, in suspense or with a person."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.booking import reference_binding
from vault_core.collections.suspense import mask_reference
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class OpenCollection:
    """A payment that is not posted. `reference` is masked."""

    partner: str
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    state: str
    reason: str | None
    reference: str


_OPEN = text(
    """
    SELECT collections.id, partners.name, short_code, receipt, amount_cents, happened_at, collections.state,
           coalesce(reason, outbox.last_cause) AS reason, bill_reference_sealed
    FROM collections JOIN partners ON partners.id = collections.partner_id
    LEFT JOIN outbox ON outbox.kind = 'collection.post' AND outbox.subject = collections.id::text
    WHERE collections.state <> 'posted' AND (CAST(:partner AS text) IS NULL OR partners.name = :partner)
    ORDER BY happened_at, collections.id LIMIT :most
    """
)


async def list_open_collections(
    connection: AsyncConnection, runtime: Runtime, *, partner: str | None = None, most: int = 500
) -> list[OpenCollection]:
    """The oldest `most` payments that are not posted; of one partner if named."""
    rows = await connection.execute(_OPEN, {"partner": partner, "most": most})
    return [
        OpenCollection(
            partner=row.name,
            short_code=row.short_code,
            receipt=row.receipt,
            amount=Money(row.amount_cents),
            happened_at=row.happened_at,
            state=row.state,
            reason=row.reason,
            reference=mask_reference(runtime.sealer.open_text(row.bill_reference_sealed, bound_to=reference_binding(row.id))),
        )
        for row in rows
    ]
