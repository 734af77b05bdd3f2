"""Reading stored deliveries: how a row becomes a Delivery, and a reading for services that must ask the outside first."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from vault_core.inbox.delivery import Delivery, sealed_body_binding
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer

DELIVERY_COLUMNS = (
    "id, partner_id, purpose, topic, received_at, source_ip, content_type, path_reference, headers, body_sealed, parsed"
)
_READ = text(
    f"SELECT {DELIVERY_COLUMNS} FROM inbound_events WHERE id = ANY(:ids) AND state <> 'processed' ORDER BY id"  # noqa: S608 - a constant
)


async def read_deliveries(runtime: Runtime, ids: Sequence[UUID]) -> list[Delivery]:
    """Those of `ids` that are not processed, in order of arrival. Locks nothing: `apply_deliveries` decides who applies them."""
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_READ, {"ids": list(ids)})).all()
    return [delivery_of(row, runtime.sealer) for row in rows]


def delivery_of(row: Row[Any], sealer: Sealer) -> Delivery:
    """The delivery that a row of DELIVERY_COLUMNS holds, its body opened. Raises SealBroken if it does not open."""
    return Delivery(
        id=row.id,
        partner_id=row.partner_id,
        purpose=row.purpose,
        topic=row.topic,
        received_at=row.received_at,
        source_ip=row.source_ip,
        content_type=row.content_type,
        path_reference=row.path_reference,
        headers=row.headers,
        body=sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)),
        parsed=row.parsed,
    )
