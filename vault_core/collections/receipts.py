"""The SMS receipt of a posted payment: amount, account and the new balance as Mifos X has it."""

from dataclasses import dataclass, field
from uuid import UUID

from vault_core.clients.mifos import MifosClient
from vault_core.errors import InvalidInput, NotFound
from vault_core.money import ZERO, Money
from vault_core.notifications.messages import NewMessage
from vault_core.partners.partner import Partner
from vault_core.phones import normalise_phone


@dataclass(frozen=True, slots=True)
class PostedPayment:
    """A payment that is in Mifos X."""

    collection_id: UUID
    short_code: str
    receipt: str
    amount: Money
    account_kind: str  # 'loan' or 'savings'
    account_id: int
    account_no: str
    client_id: int | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is told to the client. Without `phone` there is nobody to text, and `why` says so."""

    payment: PostedPayment
    new_balance: Money
    phone: str | None = field(repr=False)
    why: str | None = None

    def message(self, partner: Partner) -> NewMessage | None:
        """The text to write, once a receipt; None without a phone."""
        if self.phone is None:
            return None
        return NewMessage(
            partner=partner,
            business_key=f"receipt:{self.payment.short_code}:{self.payment.receipt}",
            template="payment_received",
            phone=self.phone,
            values={
                "amount": str(self.payment.amount),
                "kind": self.payment.account_kind,
                "account": self.payment.account_no,
                "receipt": self.payment.receipt,
                "balance": str(self.new_balance),
            },
        )


async def read_receipt(client: MifosClient, payment: PostedPayment) -> Receipt:
    """Reads the new balance and the client's mobile number: M-Pesa masks the payer's (reference/daraja.md section 4.3).

    Raises what the client raises; trying again is safe.
    """
    if payment.account_kind == "loan":
        loan = await client.loan(payment.account_id)
        balance, client_id = loan.total_outstanding or ZERO, loan.client_id
    else:
        savings = await client.savings_account(payment.account_id)
        balance, client_id = savings.balance, savings.client_id
    client_id = client_id or payment.client_id
    if client_id is None:
        return Receipt(payment, balance, None, "no receipt SMS: the account has no client of its own")
    try:
        person = await client.client(client_id)
    except NotFound:
        return Receipt(payment, balance, None, f"no receipt SMS: Mifos X has no client {client_id}")
    try:
        return Receipt(payment, balance, normalise_phone(person.mobile_no or ""))
    except InvalidInput:
        return Receipt(payment, balance, None, f"no receipt SMS: client {client_id} has no Kenyan mobile number in Mifos X")
