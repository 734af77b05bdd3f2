"""The outside of the disbursement model: a bank and a core banking system at the clients' interfaces, each with a book of its own."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from tests.conftest import StillClock
from vault_core.clients.daraja import B2CAck, B2CInstruction, BalanceQuestion, MayGo, QueryAck, StatusQuestion
from vault_core.clients.daraja_answers import classify_payment
from vault_core.clients.http_exchange import Answer
from vault_core.clients.mifos import ApprovedLoan, CoreWrite, LoanTransaction, MifosCapabilities, Posted
from vault_core.clients.mifos_errors import CONFLICT, LOCKED
from vault_core.clients.mifos_values import MifosPerson, PlannedTranche
from vault_core.money import ZERO, Money
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.partner import Partner

LOANS = (1, 2, 3, 4)
IN_TRANCHES = 4
PHONES = {1: "0712000001", 2: "0712000001", 3: "0712000003", 4: "0712000004"}  # two loans of one person
TODAY = date(2026, 11, 24)
# What M-Pesa's index of instructions shows, and for how long a request can be lost in its gateway and still be taken.
INDEX_LAGS = timedelta(minutes=1)
INDEX_HOLDS = timedelta(hours=48)
LONGEST_DELAY = timedelta(minutes=10)
_MACHINES = count(1)


class Killed(Exception):
    """Stands for the process ending here."""


def model_ids(clock: StillClock) -> Callable[[], UUID]:
    """Ids that no other machine makes, in an order that is the same whenever the same steps are taken again."""
    machine, made = next(_MACHINES), count(1)

    def make() -> UUID:
        milliseconds = int(clock.now().timestamp() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | next(made) << 40 | machine)

    return make


@dataclass
class Payment:
    """What the bank knows of one instruction."""

    loan_id: int
    originator: str
    amount: Money  # as instructed, which tells the tranches of a loan apart
    reference: str
    taken_at: datetime
    fate: str | None = None  # None: still under way; "0": paid; else the failure's code
    receipt: str = ""
    moved: Money = ZERO
    called_failed: bool = False  # a result said that it failed
    recanted: bool = False  # and then the bank found that it had paid

    @property
    def tranche(self) -> tuple[int, Money]:
        return self.loan_id, self.amount


@dataclass
class Bank:
    """M-Pesa, its book, and the mood it answers the next payment in."""

    clock: StillClock
    mood: str = "accept"
    book: dict[str, Payment] = field(default_factory=dict)
    delayed: dict[str, Payment] = field(default_factory=dict)
    questions: list[tuple[str, bytes, str]] = field(default_factory=list)  # our reference, the answer, what it is about
    told_paid: set[tuple[int, Money]] = field(default_factory=set)
    receipts: int = 0
    calls: int = 0

    async def pay(self, order: B2CInstruction, *, may_go: MayGo) -> Outcome[B2CAck]:
        self.calls += 1
        if not await may_go():
            return Refused("stopped", "sending was stopped before it left", Refusal.RETRY_LATER)
        if self.mood == "dies before":
            raise Killed
        loan_id = int(order.remarks.rpartition(" ")[2])
        payment = Payment(loan_id, order.originator_conversation_id, order.amount, order.occasion, self.clock.now())
        assert payment.tranche not in self.told_paid, "sent after it was told that it is paid"
        if self.mood == "lost on the way":
            return Unknown("no answer")
        if self.mood == "delayed":
            self.delayed.setdefault(payment.originator, payment)
            return Unknown("no answer")
        if self.mood == "spike arrest":
            return classify_payment(_SPIKE_ARREST, resend=order.resend)
        if self.mood == "refused":
            return classify_payment(_BAD_REQUEST, resend=order.resend)
        if payment.originator in self.book:
            return classify_payment(_DUPLICATE, resend=order.resend)
        self.book[payment.originator] = payment
        if self.mood == "dies after":
            raise Killed
        if self.mood == "lost on the way back":
            return Unknown("connection reset")
        said = {"ConversationID": f"AG_{payment.originator}", "OriginatorConversationID": payment.originator, "ResponseCode": "0"}
        return classify_payment(Answer(200, {}, json.dumps(said).encode()), resend=order.resend)

    def take_delayed(self, originator: str) -> None:
        """The request arrives after all; one that was sent again meanwhile is a duplicate of itself."""
        self.book.setdefault(originator, replace(self.delayed.pop(originator), taken_at=self.clock.now()))

    def lose_what_waits_too_long(self) -> None:
        self.delayed = {
            originator: payment
            for originator, payment in self.delayed.items()
            if self.clock.now() - payment.taken_at <= LONGEST_DELAY
        }

    async def query_status(self, question: StatusQuestion) -> Outcome[QueryAck]:
        originator = question.originator_conversation_id
        self.questions.append((question.occasion, self.status(originator), originator))
        return Unknown("the answer to the question is lost")

    async def query_balance(self, _question: BalanceQuestion) -> Outcome[QueryAck]:
        return Unknown("no answer")

    def under_way(self) -> list[Payment]:
        return [self.book[originator] for originator in sorted(self.book) if self.book[originator].fate is None]

    def decided(self) -> list[Payment]:
        return [self.book[originator] for originator in sorted(self.book) if self.book[originator].fate is not None]

    def paid(self) -> list[Payment]:
        return [payment for payment in self.decided() if payment.fate == "0"]

    def decide(self, payment: Payment, code: str, *, short_by: Money = ZERO) -> None:
        payment.fate = code
        if code == "0":
            self._pay_out(payment, payment.amount - short_by)

    def recant(self, payment: Payment) -> None:
        """What was called failed was paid."""
        payment.fate, payment.recanted = "0", True
        self._pay_out(payment, payment.amount)

    def _pay_out(self, payment: Payment, moved: Money) -> None:
        self.receipts += 1
        payment.receipt, payment.moved = f"UK{random.getrandbits(32):08X}{self.receipts}", moved

    def result(self, payment: Payment, *, code: str | None = None) -> bytes:
        """What M-Pesa posts to us about it; `code`: one that leaves its fate open."""
        if code is None:
            payment.called_failed |= payment.fate != "0"
            self.told_paid |= {payment.tranche} if payment.fate == "0" else set()
        parameters = [
            {"Key": "TransactionAmount", "Value": str(payment.moved.as_decimal())},
            {"Key": "TransactionReceipt", "Value": payment.receipt},
        ]
        body: dict[str, Any] = {
            "ResultType": 0,
            "ResultCode": code or payment.fate,
            "ResultDesc": "",
            "OriginatorConversationID": payment.originator,
            "ConversationID": f"AG_{payment.originator}",
        }
        if code is None and payment.fate == "0":
            body["ResultParameters"] = {"ResultParameter": parameters}
        return json.dumps({"Result": body}).encode()

    def status(self, originator: str) -> bytes:
        payment = self.book.get(originator)
        if payment is None or not INDEX_LAGS <= self.clock.now() - payment.taken_at <= INDEX_HOLDS:
            return b'{"Result":{"ResultType":0,"ResultCode":2033,"ResultDesc":"cannot be found"}}'
        status = "Initiated" if payment.fate is None else "Completed" if payment.fate == "0" else "Declined"
        values = {"TransactionStatus": status, "ReceiptNo": payment.receipt, "Amount": str(payment.moved.as_decimal())}
        parameters = [{"Key": key, "Value": value} for key, value in values.items() if value]
        return json.dumps(
            {"Result": {"ResultType": 0, "ResultCode": 0, "ResultDesc": "", "ResultParameters": {"ResultParameter": parameters}}}
        ).encode()


_SPIKE_ARREST = Answer(
    500,
    {},
    b'{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{capacity=3}",'
    b'"detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}',
)
_BAD_REQUEST = Answer(400, {}, b'{"requestId":"1","errorCode":"400.002.02","errorMessage":"Bad Request - Invalid PartyB"}')
_DUPLICATE = Answer(500, {}, b'{"requestId":"1","errorCode":"500.002.1001","errorMessage":"Duplicate OriginatorConversationID."}')


@dataclass
class Core:
    """Mifos X: its loans, its memory of idempotency keys, and the mood it answers the next disbursal in."""

    capabilities: MifosCapabilities
    mood: str = "post"
    transactions: dict[int, list[LoanTransaction]] = field(default_factory=lambda: {number: [] for number in LOANS})
    answered: dict[str, Outcome[Posted]] = field(default_factory=dict)
    running_for_ever: set[str] = field(default_factory=set)
    made: int = 0

    async def loan(self, loan_id: int) -> ApprovedLoan:
        return self.loan_now(loan_id)

    def loan_now(self, loan_id: int) -> ApprovedLoan:
        standing = [each for each in self.transactions[loan_id] if not each.reversed]
        planned = [Money.shillings(3000), Money.shillings(2000)] if loan_id == IN_TRANCHES else []
        return ApprovedLoan(
            id=loan_id, account_no=str(loan_id), external_id=None, status_id=300 if standing else 200, client_id=loan_id,
            client_name="Wanjiku Kamau", group=False, product_id=1, currency="KES", approved_principal=Money.shillings(5000),
            net_disbursal=Money.shillings(5000), multi_disburse=bool(planned), approved_on=TODAY, transactions=standing,
            total_outstanding=None,
            tranches=tuple(
                PlannedTranche(place, TODAY, principal, TODAY if place < len(standing) else None)
                for place, principal in enumerate(planned)
            ),
        )  # fmt: skip

    async def client(self, client_id: int) -> MifosPerson:
        return MifosPerson(client_id, "Wanjiku Kamau", PHONES[client_id])

    async def business_date(self) -> date | None:
        return None

    async def loan_transaction_by_external_id(self, loan_id: int, external_id: str) -> LoanTransaction | None:
        return next((each for each in self.transactions[loan_id] if each.external_id == external_id), None)

    async def disburse(self, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        key = write.idempotency_key
        assert (key is not None) == self.capabilities.idempotency
        if self.mood == "dies before":
            raise Killed
        if key is not None and key in self.running_for_ever:
            return Unknown("425")
        if key is not None and key in self.answered:
            return self.answered[key]
        if self.mood == "425 for ever":
            self.running_for_ever |= {key} if key is not None else set()
            return Unknown("425")
        if self.mood == "locked":
            return Refused(LOCKED, "locked by close-of-business", Refusal.RETRY_LATER)
        if self.mood == "conflict":
            answer: Outcome[Posted] = Refused(CONFLICT, "a lost race", Refusal.RETRY_LATER)
        else:
            answer = self._post(loan_id, write)
        if key is not None:
            self.answered[key] = answer
        if self.mood == "dies after":
            raise Killed
        return Unknown("no answer") if self.mood == "lost on the way back" else answer

    async def repay(self, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        raise AssertionError("a disbursement is no repayment")

    deposit = repay

    def _post(self, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        loan = self.loan_now(loan_id)
        seen = [each.external_id for each in self.transactions[loan_id]]
        if write.external_id is not None and write.external_id in seen:
            return Unknown("the external id exists")
        if loan.status_id != 200 and not loan.multi_disburse:
            return Refused(
                "error.msg.loan.disbursal.account.is.not.approve.not.disbursed.state", "not approved", Refusal.TERMINAL
            )
        self.made += 1
        self.transactions[loan_id].append(
            LoanTransaction(self.made, "disbursement", write.amount, write.on, write.external_id, write.receipt, reversed=False)
        )
        return Accepted(Posted(self.made, from_cache=False))

    def standing(self) -> list[tuple[int, LoanTransaction]]:
        return [(number, each) for number in LOANS for each in self.transactions[number] if not each.reversed]

    def undo(self, loan_id: int) -> None:
        """A person at the partner takes the last disbursal back; it keeps its external id and leaves the loan's list."""
        rows = self.transactions[loan_id]
        place = max(place for place, each in enumerate(rows) if not each.reversed)
        rows[place] = replace(rows[place], reversed=True)


class Outside:
    """Connections to the bank and to Mifos X."""

    def __init__(self, bank: Bank, core: Core, partner: Partner) -> None:
        self.bank = bank
        self.core = core
        self._partner = partner
        self._writes = asyncio.Semaphore(5)

    async def partner(self, _partner_id: UUID) -> Partner:
        return self._partner

    async def daraja(self, _partner_id: UUID) -> Bank:
        return self.bank

    async def mifos(self, _partner_id: UUID) -> Core:
        return self.core

    async def business_date(self, _partner_id: UUID) -> Any:
        return await self.core.business_date()

    def mifos_writes(self, _partner_id: UUID) -> asyncio.Semaphore:
        return self._writes
