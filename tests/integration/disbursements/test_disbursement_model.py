"""Any order of sending, dying, answers, results, repeats, time-outs and questions, against a bank that keeps its own book."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from tests.conftest import StillClock
from tests.integration.disbursements.conftest import CallbackStore
from vault_core.clients.daraja import B2CAck, B2CInstruction, QueryAck, StatusQuestion
from vault_core.clients.mifos import ApprovedLoan, LoanProduct
from vault_core.database import open_async_engine
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.found_loans import FoundLoan, insert_found
from vault_core.disbursements.recovery import recover_sending
from vault_core.disbursements.results import handle_b2c_results, handle_b2c_timeouts
from vault_core.disbursements.review import release_held
from vault_core.disbursements.sending import send_batch
from vault_core.disbursements.status_queries import ask_due, handle_query_results
from vault_core.errors import Unreachable
from vault_core.identifiers import id_maker
from vault_core.money import Money
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.products import Limits, enable_product, write_products
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace
from vault_core.wallets.topup import record_topup

LOANS = (1, 2, 3)
PHONES = {1: "0712000001", 2: "0712000001", 3: "0712000003"}  # two loans of one person
FAILURES = ("1", "8", "4", "2040")
ANSWERS = (
    "accept",
    "accept",
    "accept",
    "accept",
    "lost on the way",
    "lost on the way back",
    "spike arrest",
    "dies before",
    "dies after",
)


class Killed(Exception):
    """Stands for the process ending here."""


@dataclass
class Payment:
    """What the bank knows of one instruction."""

    loan_id: int
    originator: str
    amount: Money
    reference: str
    fate: str | None = None  # None: still under way; "0": paid; else the failure's code
    receipt: str = ""


@dataclass
class Bank:
    """M-Pesa, its book, and the mood it answers the next payment in."""

    mood: str = "accept"
    book: dict[str, Payment] = field(default_factory=dict)
    questions: list[tuple[str, str]] = field(default_factory=list)
    receipts: int = 0

    async def pay(self, order: B2CInstruction) -> Outcome[B2CAck]:
        if self.mood == "dies before":
            raise Killed
        if self.mood == "lost on the way":
            return Unknown("no answer")
        if self.mood == "spike arrest":
            return (
                Refused("500.003.02", "Spike Arrest Violation", Refusal.RETRY_LATER)
                if not order.resend
                else Unknown("spike arrest")
            )
        if order.originator_conversation_id in self.book:
            return Unknown("Duplicate OriginatorConversationID.")
        loan_id = int(order.remarks.rpartition(" ")[2])
        payment = Payment(loan_id, order.originator_conversation_id, order.amount, order.occasion)
        self.book[payment.originator] = payment
        if self.mood == "dies after":
            raise Killed
        if self.mood == "lost on the way back":
            return Unknown("connection reset")
        return Accepted(B2CAck(f"AG_{payment.originator}", payment.originator))

    async def query_status(self, question: StatusQuestion) -> Outcome[QueryAck]:
        self.questions.append((question.occasion, question.originator_conversation_id))
        return Unknown("the answer to the question is lost")

    def decide(self, payment: Payment, code: str) -> None:
        payment.fate = code
        if code == "0":
            self.receipts += 1
            payment.receipt = f"UK{random.getrandbits(32):08X}{self.receipts}"

    def result(self, payment: Payment) -> bytes:
        parameters = [
            {"Key": "TransactionAmount", "Value": str(payment.amount.as_decimal())},
            {"Key": "TransactionReceipt", "Value": payment.receipt},
        ]
        body: dict[str, Any] = {
            "ResultType": 0,
            "ResultCode": payment.fate,
            "ResultDesc": "",
            "OriginatorConversationID": payment.originator,
            "ConversationID": f"AG_{payment.originator}",
        }
        if payment.fate == "0":
            body["ResultParameters"] = {"ResultParameter": parameters}
        return json.dumps({"Result": body}).encode()

    def status(self, originator: str) -> bytes:
        payment = self.book.get(originator)
        if payment is None:
            return b'{"Result":{"ResultType":0,"ResultCode":2033,"ResultDesc":"cannot be found"}}'
        status = "Initiated" if payment.fate is None else "Completed" if payment.fate == "0" else "Declined"
        values = {"TransactionStatus": status, "ReceiptNo": payment.receipt, "Amount": str(payment.amount.as_decimal())}
        parameters = [{"Key": key, "Value": value} for key, value in values.items() if value]
        return json.dumps(
            {"Result": {"ResultType": 0, "ResultCode": 0, "ResultDesc": "", "ResultParameters": {"ResultParameter": parameters}}}
        ).encode()


def approved(number: int) -> ApprovedLoan:
    return ApprovedLoan(
        id=number, account_no=str(number), external_id=None, status_id=200, client_id=number, client_name="Wanjiku Kamau", group=False,
        product_id=1, currency="KES", approved_principal=Money.shillings(5000), net_disbursal=Money.shillings(5000),
        multi_disburse=False, approved_on=date(2026, 11, 24), transactions=[], total_outstanding=None,
    )  # fmt: skip


class Outside:
    """Connections to the bank, and to a Mifos X that still has every loan approved."""

    def __init__(self, bank: Bank, partner: Partner) -> None:
        self.bank = bank
        self._partner = partner

    async def partner(self, _partner_id: UUID) -> Partner:
        return self._partner

    async def daraja(self, _partner_id: UUID) -> Bank:
        return self.bank

    async def mifos(self, _partner_id: UUID) -> "Outside":
        return self

    async def loan(self, loan_id: int) -> ApprovedLoan:
        return approved(loan_id)

    async def client(self, _client_id: int) -> Any:
        raise Unreachable("not asked here")


class Disbursing(RuleBasedStateMachine):
    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = StillClock()
        self.bank = Bank()
        self.http = httpx.AsyncClient(verify=False)  # noqa: S501 - calls nobody
        self.runtime = Runtime(
            engine=open_async_engine(self.database_url), clock=self.clock, new_id=id_maker(self.clock), chance=random.Random(1),
            sealer=Sealer([("test", b"0123456789abcdef0123456789abcdef")]), http=self.http,
            pace=Pace(b2c_in_flight=2, http_timeout=1.0, payout_retry_tries=3), public_url="http://127.0.0.1:8000",
        )  # fmt: skip
        self.callbacks = CallbackStore()
        self.callbacks.runtime = self.runtime

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def a_lender_with_loans(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        runtime = self.runtime
        partner_id = runtime.new_id()
        name = f"l{partner_id.hex[-12:]}"
        async with runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,"
                    " b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, sms_price_cents, next_poll_at,"
                    " created_at) VALUES (:id, :name, :name, '', 'default', 'mifos', '', 'api', :name, :name, '', 'sim', 'L', 80,"
                    " :now, :now)"
                ),
                {"id": partner_id, "name": name, "now": self.clock.now()},
            )
            self.partner = await load_partner(connection, id=partner_id)
            await write_products(connection, runtime, partner_id, [LoanProduct(1, "Biashara", "B", "KES", active=True)])
        await enable_product(runtime, self.partner, "1", Limits(Money.shillings(500), Money.shillings(200_000)), actor="ops:test")
        await record_topup(runtime, partner_id, Money.shillings(10_000), f"T{name}", "ops:test", "test")
        found = [FoundLoan(approved(number), PHONES[number]) for number in LOANS]
        async with runtime.engine.begin() as connection:
            await insert_found(connection, runtime, partner_id, found, "poll")
        self.outside = Outside(self.bank, self.partner)

    def teardown(self) -> None:
        async def close() -> None:
            await self.http.aclose()
            # The next machine has a partner of its own: this one's loans are out of its way.
            async with self.runtime.engine.begin() as connection:
                await connection.execute(text("UPDATE partners SET state = 'paused'"))
                await connection.execute(text("UPDATE disbursement_attempts SET query_at = NULL, send_by = 'infinity'"))
            await self.runtime.engine.dispose()

        self.run(close())
        self.runner.close()

    # what may happen

    @rule(mood=st.sampled_from(ANSWERS))
    def send(self, mood: str) -> None:
        self.bank.mood = mood

        async def work() -> None:
            for batch in await form_batches(self.runtime):
                await send_batch(self.runtime, self.outside, batch.id)

        try:
            self.run(work())
        except Killed:
            assert mood.startswith("dies")

    @precondition(lambda self: any(payment.fate is None for payment in self.bank.book.values()))
    @rule(data=st.data(), code=st.sampled_from(("0", "0", "0", *FAILURES)))
    def the_bank_decides(self, data: Any, code: str) -> None:
        open_ones = sorted(payment.originator for payment in self.bank.book.values() if payment.fate is None)
        self.bank.decide(self.bank.book[data.draw(st.sampled_from(open_ones))], code)

    @precondition(lambda self: any(payment.fate for payment in self.bank.book.values()))
    @rule(data=st.data(), times=st.sampled_from((1, 2)))
    def a_result_comes(self, data: Any, times: int) -> None:
        decided = sorted(payment.originator for payment in self.bank.book.values() if payment.fate)
        payment = self.bank.book[data.draw(st.sampled_from(decided))]
        self.run(self._tell("b2c_result", self.bank.result(payment), None, handle_b2c_results, times))

    @precondition(lambda self: self.bank.book)
    @rule(data=st.data())
    def a_queue_time_out_comes(self, data: Any) -> None:
        payment = self.bank.book[data.draw(st.sampled_from(sorted(self.bank.book)))]
        self.run(self._tell("b2c_timeout", b"", payment.reference, handle_b2c_timeouts, 1))

    @rule()
    def questions_are_asked(self) -> None:
        self.run(ask_due(self.runtime, self.outside))

    @precondition(lambda self: self.bank.questions)
    @rule(data=st.data(), times=st.sampled_from((1, 1, 2)))
    def a_question_is_answered(self, data: Any, times: int) -> None:
        reference, originator = data.draw(st.sampled_from(self.bank.questions))
        self.run(self._tell("query_result", self.bank.status(originator), reference, handle_query_results, times))

    @rule()
    def the_workers_look_again(self) -> None:
        self.run(recover_sending(self.runtime, self.outside))
        self.run(release_held(self.runtime, self.outside))

    @rule(minutes=st.sampled_from((1, 6, 11, 90, 1500)))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_time(minutes=minutes)

    async def _tell(self, purpose: str, body: bytes, reference: str | None, handler: Any, times: int) -> None:
        ids = [await self.callbacks.keep(self.partner.id, purpose, body, reference) for _ in range(times)]
        await handler(self.runtime, self.outside, ids)
        await handler(self.runtime, self.outside, ids)  # redelivery
        async with self.runtime.engine.connect() as connection:
            states = await connection.execute(text("SELECT state, cause FROM inbound_events WHERE id = ANY(:ids)"), {"ids": ids})
            assert {(row.state, row.cause) for row in states} == {("processed", None)}

    # what must hold, always

    @invariant()
    def the_bank_pays_each_loan_once_at_most(self) -> None:
        for number in LOANS:
            assert sum(payment.loan_id == number and payment.fate == "0" for payment in self.bank.book.values()) <= 1

    @invariant()
    def one_person_has_one_payment_under_way_at_most(self) -> None:
        under_way = [PHONES[payment.loan_id] for payment in self.bank.book.values() if payment.fate is None]
        assert len(under_way) == len(set(under_way))

    @invariant()
    def our_books_say_what_the_bank_says(self) -> None:
        if hasattr(self, "outside"):
            self.run(self._compare())

    async def _compare(self) -> None:
        async with self.runtime.engine.connect() as connection:
            attempts = (
                await connection.execute(
                    text(
                        "SELECT a.*, d.loan_id, d.state AS loan_state, d.hold_id, d.receipt AS loan_receipt FROM disbursement_attempts a"
                        " JOIN disbursements d ON d.id = a.disbursement_id WHERE a.partner_id = :id"
                    ),
                    {"id": self.partner.id},
                )
            ).all()
            charged = (
                await connection.execute(
                    text("SELECT key FROM ledger_transactions WHERE partner_id = :id AND kind = 'charges'"),
                    {"id": self.partner.id},
                )
            ).all()
            holds = (
                await connection.execute(
                    text("SELECT key FROM ledger_holds WHERE partner_id = :id AND state = 'held'"), {"id": self.partner.id}
                )
            ).all()
            floats = (
                await connection.execute(
                    text(
                        "SELECT coalesce(sum(balance_cents), 0)::bigint FROM ledger_accounts"
                        " WHERE partner_id = :id AND code = 'b2c_float'"
                    ),
                    {"id": self.partner.id},
                )
            ).scalar_one()
        paid = [attempt for attempt in attempts if attempt.state == "paid"]
        for attempt in attempts:
            known = self.bank.book.get(attempt.originator_conversation_id)
            if attempt.state == "paid":
                assert known is not None
                assert (known.fate, known.receipt) == ("0", attempt.receipt)
            if attempt.state == "failed":
                assert known is None or known.fate not in (None, "0"), "called dead, but the bank may pay it"
            if attempt.state in ("paid", "failed"):
                assert attempt.result_event_id is not None, "a verdict without evidence"
        assert {row.key for row in charged} == {f"charges:{attempt.disbursement_id}" for attempt in paid}
        still_open = [attempt for attempt in attempts if attempt.state in ("written", "accepted", "unknown", "refused")]
        assert {row.key for row in holds} == {f"charges:{attempt.disbursement_id}" for attempt in still_open}
        assert floats == -sum(attempt.amount_cents for attempt in paid)
        assert all(attempt.loan_state in ("paid", "posting", "disbursed") for attempt in paid)


def test_no_order_of_events_pays_twice_or_books_what_did_not_happen(database_url: str) -> None:
    machine = type("Machine", (Disbursing,), {"database_url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
