"""Which of our written questions and requests a callback of M-Pesa answers, whatever they were about."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout
from vault_core.inbox.delivery import Delivery
from vault_core.partners.callback_urls import own_id_in


async def answered_questions(
    connection: AsyncConnection, find: TextClause, read: Sequence[tuple[Delivery, MpesaResult | QueueTimeout]]
) -> dict[UUID, Row[Any]]:
    """The question, as `find` finds it, that each delivery answers: by our reference in its path or in Occasion, then by its ids.

    A delivery at another partner's address answers none.
    """
    if not read:
        return {}
    named = {delivery.id: _our_reference(delivery, said) for delivery, said in read}
    rows = await connection.execute(
        find,
        {
            "ids": [reference for reference in named.values() if reference],
            "originators": [said.originator_conversation_id for _, said in read if said.originator_conversation_id],
            "conversations": [said.conversation_id for _, said in read if said.conversation_id],
        },
    )
    by_key: dict[Any, Row[Any]] = {}
    for row in rows:
        by_key |= {key: row for key in (row.id, row.originator_conversation_id, row.conversation_id) if key is not None}
    found = {}
    for delivery, said in read:
        keys = (named[delivery.id], said.originator_conversation_id, said.conversation_id)
        rows_found = [by_key[key] for key in keys if key is not None and key in by_key]
        if rows_found and rows_found[0].partner_id == delivery.partner_id:
            found[delivery.id] = rows_found[0]
    return found


def _our_reference(delivery: Delivery, said: MpesaResult | QueueTimeout) -> UUID | None:
    named = own_id_in(delivery.path_reference)
    if named is None and isinstance(said, MpesaResult):
        named = own_id_in(said.reference_items.get("Occasion"))
    return named
