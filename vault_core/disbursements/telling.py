"""The texts about disbursements: to the client who was paid."""

from vault_core.money import Money
from vault_core.notifications.templates import parts_of
from vault_core.partners.partner import Partner


def client_text_values(name: str, amount: Money, account: str, receipt: str) -> dict[str, str]:
    """The values of the client's text."""
    return {"client_name": name, "amount": str(amount), "account": account, "receipt": receipt}


def text_parts(partner: Partner, client_name: str, amount: Money, account: str) -> int:
    """How many parts the client's text will have at most; their price is held with the charges."""
    values = client_text_values(client_name, amount, account, "X" * 10)
    return parts_of("loan_disbursed", values, partner=partner.display_name)
