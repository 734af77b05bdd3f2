"""All that may be shown of a partner, read at once: no secret, contacts masked by whoever shows them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from vault_core.clock import business_day
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_urls
from vault_core.partners.contacts import Contact, contacts_of
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.products import Product, list_products
from vault_core.partners.system_fees import SystemFee, current_fees, load_system_fees, part_price
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class PartnerDescription:
    """A partner with what hangs on it. `credentials` says which secrets are set, and since when."""

    partner: Partner
    products: list[Product]
    system_fees: tuple[SystemFee, ...]  # in force today or set for later
    part_price: Money  # of a text, today
    contacts: list[Contact]
    credentials: dict[str, datetime]
    callback_urls: dict[str, str]


_CREDENTIALS = text("SELECT purpose, set_at FROM partner_credentials WHERE partner_id = :partner_id ORDER BY purpose")


async def describe_partner(runtime: Runtime, name: str) -> PartnerDescription:
    """The description of the partner of that name. Raises NotFound, and SealBroken if the master key is another."""
    async with runtime.engine.connect() as connection:
        partner = await load_partner(connection, name=name)
        fees = (await load_system_fees(connection, [partner.id]))[partner.id]
        today = business_day(runtime.clock.now())
        credentials = await connection.execute(_CREDENTIALS, {"partner_id": partner.id})
        return PartnerDescription(
            partner=partner,
            products=await list_products(connection, partner.id),
            system_fees=current_fees(fees, today),
            part_price=part_price(fees, today)[0],
            contacts=await contacts_of(connection, runtime, partner.id),
            credentials={row.purpose: row.set_at for row in credentials},
            callback_urls=callback_urls(runtime, partner.id),
        )
