"""The SMS receipt of a posted payment: amount, account and the new balance as Mifos X has it."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_reading import loan_state_of
from vault_core.clients.mifos_values import AccountState
from vault_core.collections.intended_posting import posting_number
from vault_core.collections.pending import LivingPosting, PendingCollection
from vault_core.errors import InvalidInput, NotFound
from vault_core.money import ZERO, Money
from vault_core.notifications.messages import NewMessage
from vault_core.notifications.templates import render
from vault_core.partners.partner import Partner
from vault_core.phones import normalise_phone


@dataclass(frozen=True, slots=True)
class ToldAccount:
    """What one account has of the payment, and its balance after it: what is owed on a loan, what is saved on savings.

    `balance` is None where Mifos X does not tell it.
    """

    kind: str  # 'loan' or 'savings'
    account_no: str
    amount: Money
    balance: Money | None
    overpaid: Money
    client_id: int | None
    loan_seen: tuple[int, AccountState] | None = None  # of a loan: its id and the state that it is in now

    @property
    def values(self) -> dict[str, str]:
        """What a text says of it."""
        return {"amount": str(self.amount), "kind": self.kind, "account": self.account_no, "balance": self.balance_words}

    @property
    def balance_words(self) -> str:
        """The balance for a client: of an overpaid loan with what is too much; empty where it is not told."""
        if self.balance is None:
            return ""
        return str(self.balance) if self.overpaid == ZERO else f"{self.balance} ({self.overpaid} overpaid)"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is told to the client. Without `phone` there is nobody to text, and `why` says so.

    `turn`: which posting of the payment it is about; empty for the first. One that was moved is told anew, to whom it is for.
    """

    collection_id: UUID
    short_code: str
    receipt: str
    amount: Money
    accounts: tuple[ToldAccount, ...]  # the first is the one it was paid for
    turn: str
    phone: str | None = field(repr=False)
    why: str | None = None

    @property
    def new_balance(self) -> Money | None:
        """Of the account that it was paid for, where it is told."""
        return self.accounts[0].balance

    def message(self, partner: Partner) -> NewMessage | None:
        """The text to write, once a receipt; None without a phone."""
        if self.phone is None:
            return None
        own = self.accounts[0].client_id
        shares = [
            render("payment_share" if share.client_id == own else "payment_share_of_another", share.values, partner="")
            for share in self.accounts
        ]
        values = self.accounts[0].values | {"amount": str(self.amount), "receipt": self.receipt, "shares": "; ".join(shares)}
        return NewMessage(
            partner=partner,
            business_key=f"receipt:{self.short_code}:{self.receipt}{self.turn}",
            template=self._template,
            phone=self.phone,
            values=values,
        )

    @property
    def _template(self) -> str:
        if self.new_balance is None:
            return "payment_received_plain"
        return "payment_received" if len(self.accounts) == 1 else "payment_shared"


async def read_receipt(client: MifosClient, payment: PendingCollection) -> Receipt:
    """Reads the new balances and the client's mobile number: M-Pesa masks the payer's (reference/daraja.md section 4.3).

    Only for a payment whose living postings are made. Raises what the client raises; trying again is safe.
    """
    accounts = tuple(await asyncio.gather(*(_read(client, posting) for posting in payment.postings)))
    phone, why = await _phone(client, accounts[0].client_id or payment.client_id)
    return _receipt(payment, accounts, phone, None if why is None else f"no receipt SMS: {why}")


async def read_plain_receipt(client: MifosClient, payment: PendingCollection, cause: str) -> Receipt:
    """As `read_receipt`, without balances, which could not be read for `cause`: only the client is read."""
    phone, why = await _phone(client, payment.client_id)
    account = ToldAccount(
        payment.account_kind or "account", payment.account_no or "", payment.amount, None, ZERO, payment.client_id
    )
    told = f"receipt SMS without balance: {cause}" if why is None else f"no receipt SMS: {why}"
    return _receipt(payment, (account,), phone, told)


def _receipt(payment: PendingCollection, accounts: tuple[ToldAccount, ...], phone: str | None, why: str | None) -> Receipt:
    return Receipt(
        collection_id=payment.id,
        short_code=payment.short_code,
        receipt=payment.receipt,
        amount=payment.amount,
        accounts=accounts,
        turn=posting_number(payment.short_code, payment.receipt, payment.postings[0].external_id),
        phone=phone,
        why=why,
    )


async def _read(client: MifosClient, posting: LivingPosting) -> ToldAccount:
    if posting.kind == "repayment":
        loan = await client.loan(posting.account_id, history=False)
        owed = loan.total_outstanding or ZERO
        seen = (loan.id, loan_state_of(loan.status_id))
        return ToldAccount("loan", loan.account_no, posting.amount, owed, loan.overpaid, loan.client_id, seen)
    savings = await client.savings_account(posting.account_id, history=False)
    return ToldAccount("savings", savings.account_no, posting.amount, savings.balance, ZERO, savings.client_id)


async def _phone(client: MifosClient, client_id: int | None) -> tuple[str | None, str | None]:
    """The client's number, or why there is none."""
    if client_id is None:
        return None, "the account has no client of its own"
    try:
        person = await client.client(client_id)
    except NotFound:
        return None, f"Mifos X has no client {client_id}"
    try:
        return normalise_phone(person.mobile_no or ""), None
    except InvalidInput:
        return None, f"client {client_id} has no Kenyan mobile number in Mifos X"
