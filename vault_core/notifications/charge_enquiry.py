"""What a transaction would cost, the text that follows it included: for a person who asks, charging nothing."""

from datetime import date

from vault_core.money import Money
from vault_core.notifications.templates import parts_of
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.system_fees import Service, load_system_fees
from vault_core.runtime import Runtime
from vault_core.wallets.charges import ChargeQuote, load_tariffs, quote_collection, quote_disbursement

# A client and an account of common length: the true text may have a part more or less.
_CLIENT, _ACCOUNT, _RECEIPT = "Wanjiku Kamau", "000000001", "SKQ1ABCDEF"


async def enquire(
    runtime: Runtime, name: str, service: Service, amount: Money, day: date, *, product_id: int | None = None
) -> tuple[Partner, ChargeQuote]:
    """The partner of that name, and the quote of a transaction of `amount` on `day` (in Nairobi) by the terms it has today.

    Raises NotFound without such a partner, ConfigurationError when no price list covers the day or the amount.
    """
    async with runtime.engine.connect() as connection:
        partner = await load_partner(connection, name=name)
        fees = (await load_system_fees(connection, [partner.id]))[partner.id]
        tariffs = await load_tariffs(connection)
    text_parts = _text_parts(partner, service, amount)
    if service == "collection":
        return partner, quote_collection(tariffs, partner, fees, amount, day, sms_parts=text_parts)
    return partner, quote_disbursement(tariffs, partner, fees, amount, day, product_id=product_id, sms_parts=text_parts)


def _text_parts(partner: Partner, service: Service, amount: Money) -> int:
    told = {"amount": str(amount), "account": _ACCOUNT, "receipt": _RECEIPT}
    if service == "collection":
        return parts_of("payment_received", {**told, "kind": "loan", "balance": str(amount)}, partner=partner.display_name)
    return parts_of("loan_disbursed", {**told, "client_name": _CLIENT}, partner=partner.display_name)
