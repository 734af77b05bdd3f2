"""The outside of the payment model: an M-Pesa that prompts and gives back and a Mifos X that posts and undoes, each with its book."""

import asyncio
import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any
from uuid import UUID

from vault_core import fault_points
from vault_core.clients.daraja import QueryAck, ReversalInstruction, StatusQuestion
from vault_core.clients.daraja_answers import SLOW_DOWN
from vault_core.clients.daraja_stk import Fate, StkAck, StkFate, StkPrompt, StkQuestion
from vault_core.clients.mifos import ApprovedLoan, CoreWrite, LoanTransaction, Posted, SavingsAccount
from vault_core.clients.mifos_errors import CONFLICT
from vault_core.clients.mifos_values import AccountState, FoundAccount, MifosPerson
from vault_core.errors import NotFound, RemoteBusy
from vault_core.money import ZERO, Money
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.partner import Partner

TODAY = date(2026, 11, 20)
LOANS = {1: 1, 2: 2}  # id -> client
SAVINGS = {7: 1, 8: 2}
OWED = Money.shillings(1000)  # on each loan, before anything is repaid
NUMBERS = {f"{number:09d}": ("loan" if number in LOANS else "savings", number) for number in (*LOANS, *SAVINGS)}


class Killed(Exception):
    """Stands for the process ending here."""


@contextmanager
def dies_at(passing: int | None):
    """The process ends at the `passing`-th fault point (a commit) that is reached in here; None: it lives."""
    left = passing

    def count(_point: str) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left == 0:
                raise Killed

    before = fault_points._reached
    fault_points._reached = None if passing is None else count
    try:
        yield
    except Killed:
        pass
    finally:
        fault_points._reached = before


@dataclass
class Core:
    """Mifos X: its accounts, its memory of idempotency keys, and the mood it answers the next write in."""

    mood: str = "well"
    rows: dict[tuple[str, int], list[LoanTransaction]] = field(default_factory=lambda: {key: [] for key in NUMBERS.values()})
    answered: dict[str, Outcome[Posted]] = field(default_factory=dict)
    made: int = 0

    async def reach(self) -> None:
        pass

    async def business_date(self) -> date | None:
        return None

    def _read(self) -> None:
        if self.mood == "cannot be read":
            raise RemoteBusy("HTTP 503")

    async def client(self, client_id: int) -> MifosPerson:
        self._read()
        return MifosPerson(client_id, "Wanjiku Kamau", f"071200000{client_id}")

    async def find_accounts(self, name: str) -> list[FoundAccount]:
        self._read()
        return [self.found(*NUMBERS[name])] if name in NUMBERS else []

    async def account(self, kind: str, account_id: int) -> FoundAccount:
        self._read()
        if (kind, account_id) not in self.rows:
            raise NotFound("no such account")
        return self.found(kind, account_id)

    async def open_accounts(self, client_id: int) -> list[tuple[str, int]]:
        owners = {**{("loan", one): of for one, of in LOANS.items()}, **{("savings", one): of for one, of in SAVINGS.items()}}
        return [key for key, owner in owners.items() if owner == client_id]

    async def loan(self, loan_id: int, *, history: bool = True) -> ApprovedLoan:  # noqa: ARG002 - as MifosClient has it
        self._read()
        paid = self.balance("loan", loan_id)
        status = 700 if paid > OWED else 600 if paid == OWED else 300
        return ApprovedLoan(
            id=loan_id, account_no=f"{loan_id:09d}", external_id=None, status_id=status, client_id=LOANS[loan_id], client_name=None,
            group=False, product_id=1, currency="KES", approved_principal=OWED, net_disbursal=OWED, multi_disburse=False,
            approved_on=TODAY, transactions=self.rows["loan", loan_id], total_outstanding=max(OWED - paid, ZERO),
            overpaid=max(paid - OWED, ZERO),
        )  # fmt: skip

    async def savings_account(self, savings_id: int, *, history: bool = True) -> SavingsAccount:  # noqa: ARG002
        self._read()
        rows = self.rows["savings", savings_id]
        return SavingsAccount(
            savings_id, f"{savings_id:09d}", self.balance("savings", savings_id), True, SAVINGS[savings_id], None, rows
        )  # fmt: skip

    async def loan_transaction_by_external_id(self, loan_id: int, external_id: str) -> LoanTransaction | None:
        return next((each for each in self.rows["loan", loan_id] if each.external_id == external_id), None)

    async def repay(self, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        return self._write("loan", loan_id, "repayment", write)

    async def deposit(self, savings_id: int, write: CoreWrite) -> Outcome[Posted]:
        return self._write("savings", savings_id, "deposit", write)

    async def disburse(self, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        raise AssertionError("a payment is no disbursement")

    async def undo_repayment(self, loan_id: int, transaction_id: int, *, on: date) -> Outcome[Posted]:  # noqa: ARG002 - the interface
        return self._undo("loan", loan_id, transaction_id)

    async def undo_deposit(self, savings_id: int, transaction_id: int) -> Outcome[Posted]:
        return self._undo("savings", savings_id, transaction_id)

    def found(self, kind: str, account_id: int) -> FoundAccount:
        owner = LOANS[account_id] if kind == "loan" else SAVINGS[account_id]
        over = kind == "loan" and self.balance(kind, account_id) > OWED
        state = AccountState.OVERPAID if over else AccountState.ACTIVE
        return FoundAccount(kind, account_id, f"{account_id:09d}", None, owner, None, state, "KES")

    def balance(self, kind: str, account_id: int) -> Money:
        return Money(sum(each.amount.cents for each in self.rows[kind, account_id] if not each.reversed))

    def standing(self, receipt: str) -> list[LoanTransaction]:
        return [each for rows in self.rows.values() for each in rows if each.receipt == receipt and not each.reversed]

    def _write(self, kind: str, account_id: int, what: str, write: CoreWrite) -> Outcome[Posted]:
        mood, key = self.mood, write.idempotency_key or ""
        if mood == "dies before":
            raise Killed
        if mood == "away":
            return Unknown("no answer")
        if key in self.answered:
            return self.answered[key]
        if mood == "conflict":
            self.answered[key] = Refused(CONFLICT, "a lost race", Refusal.RETRY_LATER)
        elif mood == "refuses":
            self.answered[key] = Refused("error.msg.some.rule", "no", Refusal.TERMINAL)
        elif any(each.external_id == write.external_id for rows in self.rows.values() for each in rows):
            self.answered[key] = Unknown("the external id exists")
        else:
            self.made += 1
            row = LoanTransaction(self.made, what, write.amount, write.on, write.external_id, write.receipt, reversed=False)
            self.rows[kind, account_id].append(row)
            self.answered[key] = Accepted(Posted(self.made, from_cache=False))
        if mood == "dies after":
            raise Killed
        return Unknown("no answer") if mood == "lost on the way back" else self.answered[key]

    def _undo(self, kind: str, account_id: int, transaction_id: int) -> Outcome[Posted]:
        if self.mood == "dies before":
            raise Killed
        if self.mood == "away":
            return Unknown("no answer")
        if self.mood in ("refuses", "conflict"):
            later = Refusal.TERMINAL if self.mood == "refuses" else Refusal.RETRY_LATER
            return Refused("error.msg.not.now", "no", later)
        rows = self.rows[kind, account_id]
        place = next(place for place, each in enumerate(rows) if each.id == transaction_id)
        assert not rows[place].reversed, "undone twice"
        rows[place] = replace(rows[place], reversed=True)
        if self.mood == "dies after":
            raise Killed
        return Unknown("no answer") if self.mood == "lost on the way back" else Accepted(Posted(transaction_id, from_cache=False))


@dataclass(frozen=True)
class Asked:
    """A reversal that reached M-Pesa."""

    reference: str
    originator: str
    receipt: str
    cents: int
    code: str
    own: str

    def body(self) -> bytes:
        outer = {"ResultType": 0, "ResultCode": self.code, "ResultDesc": "", "OriginatorConversationID": self.originator}
        return json.dumps({"Result": outer | {"ConversationID": f"AG_{self.originator}", "TransactionID": self.own}}).encode()

    def status(self) -> bytes:
        values = {"TransactionStatus": "Completed" if self.code == "0" else "Declined", "ReceiptNo": self.own}
        rows = [{"Key": key, "Value": value} for key, value in values.items()]
        return json.dumps({"Result": {"ResultType": 0, "ResultCode": 0, "ResultParameters": {"ResultParameter": rows}}}).encode()


@dataclass(frozen=True)
class Prompted:
    """A prompt that reached a phone. `receipt`: under which the customer paid; None: they did not."""

    request: str  # our id in the callback's URL
    checkout: str
    reference: str
    amount: Money
    receipt: str | None

    def callback(self, phone: str, *, bare: bool = False) -> bytes:
        """What M-Pesa calls back; `bare`: its success names no receipt."""
        said: dict[str, Any] = {"MerchantRequestID": "m", "CheckoutRequestID": self.checkout, "ResultDesc": "d"}
        if self.receipt is None:
            return json.dumps({"Body": {"stkCallback": said | {"ResultCode": 1032}}}).encode()
        told = {"Amount": float(self.amount.cents / 100), "MpesaReceiptNumber": self.receipt, "PhoneNumber": int(phone)}
        if bare:
            del told["MpesaReceiptNumber"]
        items = [{"Name": name, "Value": value} for name, value in told.items()]
        return json.dumps({"Body": {"stkCallback": said | {"ResultCode": 0, "CallbackMetadata": {"Item": items}}}}).encode()


@dataclass
class Bank:
    """M-Pesa: whom it prompted, what it gave back, and the mood it answers the next request in.

    `pays`: under which receipt the next one who is prompted pays; None: they will not. `fate`: what it says of a prompt, if not
    the truth.
    """

    mood: str = "accept"
    pays: str | None = None
    fate: Fate | None = None
    prompts: dict[str, Prompted] = field(default_factory=dict)  # by CheckoutRequestID
    can_prompt: bool = True
    asked: list[Asked] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)

    async def reverse(self, wanted: ReversalInstruction) -> Outcome[QueryAck]:
        if self.mood == "dies before":
            raise Killed
        if self.mood == "busy":
            if wanted.resend:
                return Unknown("refused on a resend", SLOW_DOWN)
            return Refused(SLOW_DOWN, "Spike Arrest Violation", Refusal.RETRY_LATER)
        if self.mood == "lost on the way":
            return Unknown("no answer")
        code = "R000001" if self.given_back(wanted.receipt) else "1" if self.mood == "refuses" else "0"
        number = len(self.asked) + 1
        own = f"RV{wanted.receipt}{number}" if code == "0" else "UKO0000000"
        originator = f"o-{wanted.receipt}-{number}"
        self.asked.append(Asked(wanted.occasion, originator, wanted.receipt, wanted.amount.cents, code, own))
        if self.mood == "dies after":
            raise Killed
        return Unknown("no answer") if self.mood == "lost on the way back" else Accepted(QueryAck(f"AG_{originator}", originator))

    async def query_status(self, question: StatusQuestion) -> Outcome[QueryAck]:
        self.questions.append((question.occasion, question.originator_conversation_id))
        return Unknown("the answer to the question is lost")

    async def prompt(self, wanted: StkPrompt) -> Outcome[StkAck]:
        if self.mood == "dies before":
            raise Killed
        if self.mood in ("busy", "refuses"):
            return Refused(SLOW_DOWN, "Spike Arrest Violation", Refusal.RETRY_LATER)
        if self.mood == "lost on the way":
            return Unknown("no answer")
        checkout = f"ws_CO_{wanted.short_code}_{len(self.prompts) + 1}"
        request = wanted.callback_url.rsplit("/", 1)[-1]
        self.prompts[checkout] = Prompted(request, checkout, wanted.account_reference, wanted.amount, self.pays)
        if self.mood == "dies after":
            raise Killed
        return Unknown("no answer") if self.mood == "lost on the way back" else Accepted(StkAck("m", checkout))

    async def query_prompt(self, question: StkQuestion) -> Outcome[StkFate]:
        truth = Fate.PAID if self.prompts[question.checkout_request_id].receipt else Fate.DECLINED
        said = self.fate or truth
        return Accepted(StkFate(said, {Fate.PAID: "0", Fate.DECLINED: "1037", Fate.PENDING: "4999"}[said], "said"))

    def given_back(self, receipt: str) -> int:
        return sum(each.receipt == receipt and each.code == "0" for each in self.asked)


class Outside:
    """Connections to M-Pesa and to Mifos X."""

    def __init__(self, bank: Bank, core: Core, partner: Partner) -> None:
        self.bank, self.core = bank, core
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

    def mifos_writes(self, _partner_id: UUID) -> Any:
        return self._writes
