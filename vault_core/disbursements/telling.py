"""The texts about disbursements: to the client who was paid."""

from vault_core.money import Money
from vault_core.notifications.templates import parts_of
from vault_core.partners.partner import Partner


def client_text_values(name: str, amount: Money, account: str, receipt: str) -> dict[str, str]:
    """The values of the client's text."""
    return {"client_name": name, "amount": str(amount), "account": account, "receipt": receipt}


def sms_reserve(partner: Partner, client_name: str, amount: Money, account: str) -> Money:
    """What the client's text will cost at most, to be held with the charges."""
    values = client_text_values(client_name, amount, account, "X" * 10)
    return partner.sms_price * parts_of("loan_disbursed", values, partner=partner.display_name)
