"""Reading stored deliveries without applying them: for services that must ask the outside before they can."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from vault_core.inbox.delivery import Delivery, sealed_body_binding
from vault_core.runtime import Runtime

_READ = text(
    """
    SELECT id, partner_id, purpose, topic, received_at, source_ip, content_type, path_reference, headers, body_sealed, parsed
    FROM inbound_events WHERE id = ANY(:ids) AND state <> 'processed' ORDER BY id
    """
)


async def read_deliveries(runtime: Runtime, ids: Sequence[UUID]) -> list[Delivery]:
    """Those of `ids` that are not processed, in order of arrival. Locks nothing: `apply_deliveries` decides who applies them."""
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_READ, {"ids": list(ids)})).all()
    return [
        Delivery(
            id=row.id,
            partner_id=row.partner_id,
            purpose=row.purpose,
            topic=row.topic,
            received_at=row.received_at,
            source_ip=row.source_ip,
            content_type=row.content_type,
            path_reference=row.path_reference,
            headers=row.headers,
            body=runtime.sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)),
            parsed=row.parsed,
        )
        for row in rows
    ]
