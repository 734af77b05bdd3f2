"""One payment as each feed tells it, through the real way in."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from vault_core.clients.daraja_pull import PullAnswer, PullQuestion, classify_pull
from vault_core.clients.http_exchange import Answer
from vault_core.clock import NAIROBI
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.collections.pull_answers import book_page, keep_answer
from vault_core.collections.pull_rules import Window
from vault_core.collections.statement_import import ImportReport, Statement, import_statement
from vault_core.database import in_transaction
from vault_core.money import Money
from vault_core.outcome import Accepted

PAY_BILL = "600100"
PHONE = "254712000126"
COLUMNS = (
    "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Balance Confirmed,"
    "Reason Type,Other Party Info,Linked Transaction ID,A/C No.,Currency"
)


@dataclass(frozen=True)
class Paid:
    """The truth that the feeds tell of."""

    receipt: str
    cents: int
    at: datetime
    reference: str = "000000011"
    balance: int = 9_000_00
    short_code: str = PAY_BILL

    def confirmation(self, version: str = "v2") -> bytes:
        """Its confirmation as C2B sends it: v1 (phone hashed), v2 (masked), or as old ones did (numbers, phone in clear)."""
        written = f"{self.at.astimezone(NAIROBI):%Y%m%d%H%M%S}"
        sent: dict[str, Any] = {
            "TransID": self.receipt,
            "TransTime": written,
            "TransAmount": f"{self.cents // 100}.{self.cents % 100:02d}",
            "BusinessShortCode": self.short_code,
            "BillRefNumber": self.reference,
            "OrgAccountBalance": f"{self.balance // 100}.{self.balance % 100:02d}",
            "MSISDN": "2547 ***** 126",
            "FirstName": "JANE",
        }
        if version == "v1":
            sent |= {"TransactionType": "Pay Bill", "MSISDN": sha256(PHONE.encode()).hexdigest(), "LastName": "WANJIKU"}
        if version == "legacy":
            numbers = {"TransTime": int(written), "BusinessShortCode": int(self.short_code), "MSISDN": int(PHONE)}
            sent |= {"TransactionType": "", "TransID": self.receipt.lower(), "ThirdPartyTransID": "1234567890"} | numbers
        return json.dumps(sent).encode()

    def pulled(self) -> dict[str, object]:
        return {
            "transactionId": self.receipt,
            "trxDate": f"{self.at.astimezone(NAIROBI):%Y-%m-%dT%H:%M:%S}Z",
            "msisdn": 712000126,
            "sender": "MPESA",
            "transactiontype": "c2b-pay-bill-debit",
            "billreference": self.reference,
            "amount": f"{self.cents // 100}.{self.cents % 100:02d}",
        }

    def statement_line(self) -> str:
        written = f"{self.at.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}"
        paid, balance = f"{self.cents // 100:,}.{self.cents % 100:02d}", f"{self.balance // 100:,}.{self.balance % 100:02d}"
        party = "25471****126 - JANE WANJIKU"
        return f'{self.receipt},{written},{written},Pay Bill,Completed,"{paid}",,"{balance}",true,Pay Bill,{party},,{self.reference},KES'

    def pushed(self, partner_id: UUID, event_id: UUID) -> IncomingPayment:
        return IncomingPayment(
            partner_id=partner_id,
            short_code=self.short_code,
            receipt=self.receipt,
            amount=Money(self.cents),
            happened_at=self.at,
            source="stk",
            event_id=event_id,
            org_balance=None,
            bill_reference=self.reference,
            payer_phone=PHONE,
            payer_name=None,
        )


def paid(receipt: str, at: datetime, cents: int = 500_00, **more) -> Paid:
    return Paid(receipt, cents, at.astimezone(UTC).replace(microsecond=0), **more)


async def tell_by_pull(umoja, *payments: Paid) -> None:
    """A pull answer with these rows, kept and booked as a sweep does."""
    body = json.dumps({"ResponseCode": "1000", "Response": [[one.pulled() for one in payments]]}).encode()
    outcome = classify_pull(Answer(200, {}, body))
    assert isinstance(outcome, Accepted)
    window = Window(
        min(one.at for one in payments) - timedelta(minutes=5), max(one.at for one in payments) + timedelta(minutes=5)
    )
    short_code = umoja.partner.c2b_short_code
    question = PullQuestion(short_code, window.start, window.end)
    answer_id = await keep_answer(umoja.runtime, umoja.partner.id, question, PullAnswer(outcome, 200, body))
    await book_page(umoja.runtime, umoja.partner.id, short_code, window, outcome.value, answer_id)


def statement_of(*payments: Paid, name: str = "statement.csv", extra: str = "") -> Statement:
    [short_code] = {one.short_code for one in payments} or {PAY_BILL}
    lines = [f"Short Code,{short_code}", "", COLUMNS, *(one.statement_line() for one in payments), extra, ""]
    return Statement(name, "\n".join(lines).encode())


async def tell_by_statement(umoja, *payments: Paid, extra: str = "") -> ImportReport:
    return await import_statement(umoja.runtime, umoja.partner, statement_of(*payments, extra=extra), actor="ops:test")


async def tell_by_push(umoja, *payments: Paid) -> None:
    told = [one.pushed(umoja.partner.id, umoja.runtime.new_id()) for one in payments]
    await in_transaction(umoja.runtime.engine, lambda connection: book_payments(connection, umoja.runtime, told))


async def tell_by_confirmation(umoja, *payments: Paid) -> None:
    await umoja.confirm(*(one.confirmation() for one in payments))


TELL = {"c2b": tell_by_confirmation, "stk": tell_by_push, "pull": tell_by_pull, "statement": tell_by_statement}
