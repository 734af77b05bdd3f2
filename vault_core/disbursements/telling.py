"""The texts about disbursements: to the client who was paid, to the partner's people about what was or was not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.ledger.holds import Short
from vault_core.money import Money
from vault_core.notifications.messages import NewMessage, write_messages
from vault_core.notifications.templates import parts_of
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


async def tell_wallet_short(connection: AsyncConnection, runtime: Runtime, partner: Partner, short: Short) -> None:
    """Tells the partner's people that loans wait for the wallet. For the caller that has just opened the alert."""
    alert = f"{partner.id}:{runtime.clock.now().isoformat()}"
    values = {"available": str(short.available), "needed": str(short.needed)}
    await tell_partners(connection, runtime, [PartnerText(partner, f"wallet_short:{alert}", "wallet_short", values)])


def client_text_values(name: str, amount: Money, account: str, receipt: str) -> dict[str, str]:
    """The values of the client's text."""
    return {"client_name": name, "amount": str(amount), "account": account, "receipt": receipt}


def sms_reserve(partner: Partner, client_name: str, amount: Money, account: str) -> Money:
    """What the client's text will cost at most, to be held with the charges."""
    values = client_text_values(client_name, amount, account, "X" * 10)
    return partner.sms_price * parts_of("loan_disbursed", values, partner=partner.display_name)


async def _people(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> list[tuple[str, str]]:
    contacts = await contacts_of(connection, runtime, partner_id)
    chosen = [contact for contact in contacts if contact.role == "operations"] or contacts
    # The key of a message must not hold a phone; its keyed hash tells people apart as well.
    return [(runtime.sealer.lookup_hash(contact.phone, purpose="phone").hex()[:16], contact.phone) for contact in chosen]
