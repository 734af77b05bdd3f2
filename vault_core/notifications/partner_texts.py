"""Texts to a partner's own people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.notifications.messages import NewMessage, write_messages
from vault_core.partners.contacts import contacts_of
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PartnerText:
    """A text to a partner's people. `fact` names what is told: each person is told it once, ever."""

    partner: Partner
    fact: str
    template: str
    values: Mapping[str, str]


async def tell_partners(connection: AsyncConnection, runtime: Runtime, texts: Sequence[PartnerText]) -> None:
    """Writes each text to the operations contacts of its partner, or to all of its contacts if it has none of those."""
    if not texts:
        return
    messages: list[NewMessage] = []
    people: dict[UUID, list[tuple[str, str]]] = {}
    for wanted in texts:
        partner = wanted.partner
        if partner.id not in people:
            people[partner.id] = await _people(connection, runtime, partner.id)
        messages += [
            NewMessage(
                partner=partner, business_key=f"{wanted.fact}:{tag}", template=wanted.template, phone=phone, values=wanted.values
            )
            for tag, phone in people[partner.id]
        ]
    await write_messages(connection, runtime, messages)


async def _people(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> list[tuple[str, str]]:
    contacts = await contacts_of(connection, runtime, partner_id)
    chosen = [contact for contact in contacts if contact.role == "operations"] or contacts
    # The key of a message must not hold a phone; its keyed hash tells people apart as well.
    return [(runtime.sealer.lookup_hash(contact.phone, purpose="phone").hex()[:16], contact.phone) for contact in chosen]
