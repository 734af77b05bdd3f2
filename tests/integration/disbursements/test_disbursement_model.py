"""Any order of sending, dying, answers, results, repeats, time-outs, questions, postings and people's acts, against a bank and a
core banking system that keep their own books; and whatever happened, once the outside is well every payout comes to an end.

A longer run: `./vault test -m campaign tests/integration/disbursements/test_disbursement_model.py`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Row, text

from tests.conftest import StillClock
from tests.integration.disbursements.conftest import CallbackStore
from tests.integration.disbursements.disbursement_model import LOANS, PHONES, Bank, Core, Killed, Outside, Payment, model_ids
from tests.state_machines import run_on_database
from vault_core.clients.mifos import LoanProduct, MifosCapabilities
from vault_core.database import open_async_engine
from vault_core.disbursements.awaiting import NOT_TAKEN, UNRESOLVED
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.found_loans import FoundLoan, insert_found
from vault_core.disbursements.next_tranches import find_next_tranches
from vault_core.disbursements.payout_halt import begin_halt, end_halt
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.disbursements.posting import UNPOSTED, post_disbursements
from vault_core.disbursements.recovery import recover_sending
from vault_core.disbursements.resolution_rules import SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import approve_resolution, resolve_payout
from vault_core.disbursements.results import handle_b2c_results, handle_b2c_timeouts
from vault_core.disbursements.review import read_held_again, release_held
from vault_core.disbursements.send_pace import WIDEST
from vault_core.disbursements.sending import send_batch
from vault_core.disbursements.status_queries import ask_due
from vault_core.disbursements.unpaid import FAILED_CASE
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import Money
from vault_core.outbox.calls import claim_calls
from vault_core.partners.partner import load_partner
from vault_core.partners.products import Limits, enable_product, write_products
from vault_core.query_answers import handle_query_results
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace
from vault_core.wallets.topup import record_topup

FAILURES = ("1", "8", "4", "2040")
VAGUE = ("17", "26", "2029", "7777")  # the last one stands in no list
NO_SUCH_RECEIPT = "XX00000000"
ANSWERS = (
    *("accept",) * 4,
    "lost on the way",
    "delayed",
    "lost on the way back",
    "spike arrest",
    "refused",
    "dies before",
    "dies after",
)
POSTINGS = (*("post",) * 3, "lost on the way back", "425 for ever", "locked", "conflict", "dies before", "dies after")
SERVERS = (
    MifosCapabilities(
        status_filter=True, idempotency=True, loan_external_ids=True, savings_external_ids=True, external_id_paths=True
    ),
    MifosCapabilities(status_filter=False, idempotency=False, loan_external_ids=False, savings_external_ids=False),
)
ACTS: dict[str, Callable[..., Awaitable[Any]]] = {
    "hold": hold_payout,
    "cancel": cancel_payout,
    "release": release_payout,
    "retry": retry_payout,
}
PACE = Pace(b2c_in_flight=2, b2c_per_second=100_000.0, http_timeout=1.0, mifos_write_timeout=5.0, payout_retry_tries=3)
MOST_ROUNDS = 40
WHICH = st.integers(0, 11)  # of however many there are: what is drawn must not depend on the books

_ADD = text(
    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_capabilities, mpesa_url,"
    " mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
    " VALUES (:id, :name, :name, :name, 'default', 'mifos', CAST(:capabilities AS jsonb), '', 'api', :name, :name, '', 'sim', 'L',"
    " :now, :now)"
)
_ATTEMPTS = text(
    "SELECT a.*, d.loan_id, d.tranche, d.state AS loan_state FROM disbursement_attempts a"
    " JOIN disbursements d ON d.id = a.disbursement_id WHERE a.partner_id = :id ORDER BY d.id, a.number"
)
_DISBURSEMENTS = text("SELECT * FROM disbursements WHERE partner_id = :id ORDER BY loan_id, tranche")
_CHARGED = text(
    "SELECT t.key FROM ledger_transactions t WHERE t.partner_id = :id AND t.kind = 'charges' AND t.reverses IS NULL"
    " AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = t.id)"
)
_HELD = text("SELECT key FROM ledger_holds WHERE partner_id = :id AND state = 'held'")
_FLOAT = text("SELECT coalesce(sum(balance_cents), 0)::bigint FROM ledger_accounts WHERE partner_id = :id AND code = 'b2c_float'")
_CALLS = text("SELECT id FROM outbox WHERE partner_id = :id AND kind = 'disbursement.post' AND state = 'pending' ORDER BY id")
_GAPS = text("SELECT gap_us FROM send_paces WHERE partner_id = :id")
_CASES = text("SELECT kind, subject FROM cases WHERE partner_id = :id AND closed_at IS NULL")
_EVER = text("SELECT kind || ' ' || subject AS told FROM cases WHERE partner_id = :id")
_WORDS = text("SELECT id, attempt_id, verdict FROM disbursement_resolutions WHERE state = 'applied'")
# An instruction that ended without a word of M-Pesa on its own address: a person ended it, the loan had changed, the gateway said no.
NEVER_TAKEN = ("ended by ops:test", "not sent: ", "Bad Request")
# With whom a loan may stay: each of these cases names the loan and says what is to be done.
ITS_CASES = (UNRESOLVED, NOT_TAKEN, FAILED_CASE, UNPOSTED, "disbursal_undone", "paid_amount_differs")


class Disbursing(RuleBasedStateMachine):
    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = StillClock()
        self.bank = Bank(self.clock)
        self.halted = False
        self.said: dict[UUID, tuple[str, str]] = {}  # what each delivery said of which instruction
        self.wrongly: dict[str, str] = {}  # receipts that people stated of instructions that were not paid
        self.kept: dict[UUID, int] = {}  # loans that a person holds, and how often each was sent until then
        self.to_undo: set[str] = set()  # and which stood in Mifos X when they found out
        self.outside: Outside | None = None
        self.http = httpx.AsyncClient(verify=False)  # noqa: S501 - calls nobody
        self.runtime = Runtime(
            engine=open_async_engine(self.database_url), clock=self.clock, new_id=model_ids(self.clock), chance=random.Random(1),
            sealer=Sealer([("test", b"0123456789abcdef0123456789abcdef")]), http=self.http, pace=PACE,
            public_url="http://127.0.0.1:8000",
        )  # fmt: skip
        self.callbacks = CallbackStore()
        self.callbacks.runtime = self.runtime

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(server=st.sampled_from(SERVERS), deaf=st.booleans())
    def a_lender_with_loans(self, server: MifosCapabilities, *, deaf: bool) -> None:
        self.core = Core(server)
        self.deaf = deaf  # M-Pesa: whether it tells nothing any more in the end
        self.run(self._open(server))

    async def _open(self, server: MifosCapabilities) -> None:
        runtime = self.runtime
        partner_id = runtime.new_id()
        name = f"l{partner_id.hex[-12:]}"
        capabilities = str({key: value for key, value in server.to_json().items() if key != "version"}).replace("'", '"').lower()
        async with runtime.engine.begin() as connection:
            values = {"id": partner_id, "name": name, "capabilities": capabilities, "now": self.clock.now()}
            await connection.execute(_ADD, values)
            self.partner = await load_partner(connection, id=partner_id)
            await write_products(connection, runtime, partner_id, [LoanProduct(1, "Biashara", "B", "KES", active=True)])
        assert self.partner.mifos_capabilities == server
        await enable_product(runtime, self.partner, "1", Limits(Money.shillings(500), Money.shillings(200_000)), actor="ops:test")
        await record_topup(runtime, partner_id, Money.shillings(10_000), f"T{name}", "ops:test", "test")
        found = [FoundLoan(self.core.loan_now(number), PHONES[number]) for number in LOANS]
        async with runtime.engine.begin() as connection:
            await insert_found(connection, runtime, partner_id, found, "poll")
        self.outside = Outside(self.bank, self.core, self.partner)

    def teardown(self) -> None:
        async def close() -> None:
            await self.http.aclose()
            # The next machine has a partner of its own: this one's loans are out of its way.
            async with self.runtime.engine.begin() as connection:
                await connection.execute(text("UPDATE partners SET state = 'paused'"))
                await connection.execute(text("UPDATE disbursement_attempts SET query_at = NULL, send_by = 'infinity'"))
                await connection.execute(text("UPDATE payout_halts SET ended_at = begun_at WHERE ended_at IS NULL"))
            await self.runtime.engine.dispose()

        try:
            if self.outside is not None:
                self.run(self._come_to_an_end())
        finally:
            self.run(close())
            self.runner.close()

    # what may happen outside

    @rule(mood=st.sampled_from(ANSWERS))
    def send(self, mood: str) -> None:
        self.bank.mood, before = mood, self.bank.calls
        try:
            self.run(self._send())
        except Killed:
            assert mood.startswith("dies")
        assert not self.halted or self.bank.calls == before, "sent while all sending was halted"

    @rule(mood=st.sampled_from(POSTINGS))
    def post(self, mood: str) -> None:
        self.core.mood = mood
        try:
            self.run(self._post())
        except Killed:
            assert mood.startswith("dies")

    @precondition(lambda self: self.bank.delayed)
    @rule(which=WHICH)
    def a_delayed_request_arrives(self, which: int) -> None:
        self.bank.take_delayed(_one_of(sorted(self.bank.delayed), which))

    @precondition(lambda self: self.bank.under_way())
    @rule(which=WHICH, code=st.sampled_from(("0", "0", "0", *FAILURES)), short=st.sampled_from((0, 0, 0, 100)))
    def the_bank_decides(self, which: int, code: str, short: int) -> None:
        self.bank.decide(_one_of(self.bank.under_way(), which), code, short_by=Money.shillings(short))

    @precondition(lambda self: self._called_failed())
    @rule(which=WHICH)
    def the_bank_finds_that_a_failure_was_paid(self, which: int) -> None:
        self.bank.recant(_one_of(self._called_failed(), which))

    def _called_failed(self) -> list[Payment]:
        # What people looked up as unpaid was looked up.
        return [each for each in self.bank.decided() if each.called_failed and each.fate != "0" and not self.wrongly]

    @precondition(lambda self: self.bank.decided())
    @rule(which=WHICH, times=st.sampled_from((1, 2)))
    def a_result_comes(self, which: int, times: int) -> None:
        self.run(self._hear_result(_one_of(self.bank.decided(), which), times))

    @precondition(lambda self: self.bank.under_way())
    @rule(which=WHICH, code=st.sampled_from(VAGUE))
    def a_result_comes_that_leaves_it_open(self, which: int, code: str) -> None:
        payment = _one_of(self.bank.under_way(), which)
        body = self.bank.result(payment, code=code)
        self.run(self._tell("b2c_result", body, None, handle_b2c_results, 1, says=(payment.originator, "nothing")))
        told = self.run(self._told_in_cases())
        assert code != "7777" or any(case.startswith("result_not_understood") for case in told), "an unlisted code alarms nobody"

    @rule()
    def a_result_of_nobody_comes(self) -> None:
        stray = f"{self.runtime.new_id().hex}"
        body = self.bank.result(Payment(1, stray, Money.shillings(5), "", self.clock.now(), fate="8"))
        self.run(self._tell("b2c_result", body, None, handle_b2c_results, 1, says=(stray, "failed")))
        assert f"result_without_payout result {stray}" in self.run(self._told_in_cases())

    @precondition(lambda self: self.bank.book)
    @rule(which=WHICH)
    def a_queue_time_out_comes(self, which: int) -> None:
        payment = self.bank.book[_one_of(sorted(self.bank.book), which)]
        says = (payment.originator, "nothing")
        self.run(self._tell("b2c_timeout", b"", payment.reference, handle_b2c_timeouts, 1, says=says))

    @precondition(lambda self: self.bank.questions)
    @rule(which=WHICH, times=st.sampled_from((1, 1, 2)))
    def a_question_is_answered(self, which: int, times: int) -> None:
        self.run(self._hear_answer(*_one_of(self.bank.questions, which), times))

    @precondition(lambda self: self.outside and self.core.standing())
    @rule(which=WHICH)
    def somebody_undoes_a_disbursal_in_mifos(self, which: int) -> None:
        self.core.undo(_one_of(sorted({number for number, _ in self.core.standing()}), which))

    # what the workers do

    @rule()
    def questions_are_asked(self) -> None:
        self.run(ask_due(self.runtime, self.outside))

    @rule()
    def the_workers_look_again(self) -> None:
        self.run(self._look_again())

    @rule(seconds=st.sampled_from((40, 60, 360, 660, 5_400, 90_000, 180_000)))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_time(seconds=seconds)
        self.bank.lose_what_waits_too_long()

    # what people do

    @rule(which=WHICH, act=st.sampled_from(sorted(ACTS)))
    def a_person_acts(self, which: int, act: str) -> None:
        row = _one_of(self.run(self._rows(_DISBURSEMENTS)), which)
        with suppress(Conflict):  # the rules forbid it: tests/unit/disbursements/test_person_rules.py
            self.run(ACTS[act](self.runtime, row.id, actor="ops:test", reason="as the client asked"))
            self.kept.pop(row.id, None)
            if act == "hold":
                self.kept[row.id] = self._sends(self.run(self._rows(_ATTEMPTS)))[row.id]

    @precondition(lambda self: self.bank.calls)
    @rule(which=WHICH)
    def a_person_looks_one_up_and_tells_the_truth(self, which: int) -> None:
        if (attempt := self._any_attempt(which)) is None:
            return
        payment = self.bank.book.get(attempt.originator_conversation_id)
        if payment is not None and payment.fate is None:
            return  # the portal shows it under way: nothing to tell
        if attempt.originator_conversation_id in self.wrongly:
            return  # that is people_find_out_that_they_were_mistaken
        paid = payment is not None and payment.fate == "0"
        with suppress(Conflict, InvalidInput):
            self.run(self._resolve(attempt, SeenPaid(payment.receipt, payment.moved) if paid else SeenUnpaid()))

    @precondition(lambda self: self.bank.calls and not self.wrongly)
    @rule(which=WHICH)
    def people_mistake_an_unpaid_one_for_paid(self, which: int) -> None:
        if (attempt := self._any_attempt(which)) is None:
            return
        payment = self.bank.book.get(attempt.originator_conversation_id)
        if attempt.state in ("paid", "failed") or (payment is not None and payment.fate in (None, "0")):
            return
        if attempt.originator_conversation_id in self.bank.delayed:
            return
        with suppress(Conflict, InvalidInput):
            receipt = f"{NO_SUCH_RECEIPT}{self.partner.name[-8:].upper()}"
            self.run(self._resolve(attempt, SeenPaid(receipt)))
            self.wrongly[attempt.originator_conversation_id] = receipt

    @precondition(lambda self: self.wrongly)
    @rule()
    def people_find_out_that_they_were_mistaken(self) -> None:
        self.run(self._put_right())

    async def _put_right(self) -> None:
        for attempt in await self._rows(_ATTEMPTS):
            receipt = self.wrongly.get(attempt.originator_conversation_id)
            if attempt.state != "paid" or receipt != attempt.receipt:
                continue
            if any(transaction.receipt == receipt for _, transaction in self.core.standing()):
                self.to_undo.add(receipt)
            with suppress(Conflict):  # it is being posted this moment
                await self._resolve(attempt, SeenUnpaid())
            del self.wrongly[attempt.originator_conversation_id]

    def _any_attempt(self, which: int) -> Row[Any] | None:
        attempts = self.run(self._rows(_ATTEMPTS))
        return _one_of(attempts, which) if attempts else None

    @rule()
    def all_sending_is_halted_or_goes_on(self) -> None:
        act = end_halt if self.halted else begin_halt
        self.run(act(self.runtime, reason="a look at the float", actor="ops:test"))
        self.halted = not self.halted

    async def _resolve(self, attempt: Row[Any], seen: SeenPaid | SeenUnpaid) -> None:
        made = await resolve_payout(
            self.runtime, attempt.disbursement_id, seen, evidence="seen in the portal", actor="ops:test", number=attempt.number
        )
        assert made.state == "proposed" or attempt.state not in ("paid", "failed"), "one person overturned what is booked"
        if made.state == "proposed":
            with pytest.raises(Conflict):
                await approve_resolution(self.runtime, attempt.disbursement_id, actor="ops:test")
            await approve_resolution(self.runtime, attempt.disbursement_id, actor="ops:second")

    async def _send(self) -> None:
        for batch in await form_batches(self.runtime):
            await send_batch(self.runtime, self.outside, batch.id)

    async def _post(self) -> None:
        calls = await claim_calls(self.runtime, [row.id for row in await self._rows(_CALLS)])
        await post_disbursements(self.runtime, self.outside, calls)

    async def _look_again(self) -> None:
        await recover_sending(self.runtime, self.outside)
        await watch_floats(self.runtime)
        await release_held(self.runtime)
        await read_held_again(self.runtime, self.outside)
        await find_next_tranches(self.runtime, self.outside)

    async def _hear_result(self, payment: Payment, times: int) -> None:
        says = (payment.originator, "paid" if payment.fate == "0" else "failed")
        await self._tell("b2c_result", self.bank.result(payment), None, handle_b2c_results, times, says=says)

    async def _hear_answer(self, reference: str, body: bytes, originator: str, times: int) -> None:
        word = next((word for sign, word in _SIGNS.items() if sign in body), "nothing")
        if word == "paid":
            self.bank.told_paid.add(self.bank.book[originator].tranche)
        await self._tell("query_result", body, reference, handle_query_results, times, says=(originator, word))
        if word == "failed" and originator in self.bank.book:
            self.bank.book[originator].called_failed = True

    async def _tell(
        self, purpose: str, body: bytes, reference: str | None, handler: Any, times: int, *, says: tuple[str, str]
    ) -> None:
        ids = [await self.callbacks.keep(self.partner.id, purpose, body, reference) for _ in range(times)]
        self.said |= dict.fromkeys(ids, says)
        await handler(self.runtime, self.outside, ids)
        await handler(self.runtime, self.outside, ids)  # redelivery
        async with self.runtime.engine.connect() as connection:
            states = await connection.execute(text("SELECT state, cause FROM inbound_events WHERE id = ANY(:ids)"), {"ids": ids})
            assert {(row.state, row.cause) for row in states} == {("processed", None)}

    async def _told_in_cases(self) -> set[str]:
        return {row.told for row in await self._rows(_EVER)}

    async def _rows(self, statement: Any) -> list[Row[Any]]:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(statement, {"id": self.partner.id})).all())

    # what must hold, always

    @invariant()
    def the_bank_pays_each_tranche_once_at_most(self) -> None:
        # What it first called failed, it may have paid beside the next one: that is told to people below.
        paid = Counter(payment.tranche for payment in self.bank.paid() if not payment.recanted)
        assert set(paid.values()) <= {1}

    @invariant()
    def one_person_has_one_payment_under_way_at_most(self) -> None:
        under_way = [PHONES[payment.loan_id] for payment in self.bank.under_way()]
        assert len(under_way) == len(set(under_way))

    @invariant()
    def our_books_say_what_the_bank_and_mifos_say(self) -> None:
        if self.outside is not None:
            self.run(self._compare())

    async def _compare(self) -> None:
        attempts = await self._rows(_ATTEMPTS)
        await self._attempts_are_as_the_bank_has_them(attempts)
        sends = self._sends(attempts)
        assert self.kept == {row_id: sends[row_id] for row_id in self.kept}, "sent though a person holds it"
        paid = [attempt for attempt in attempts if attempt.state == "paid"]
        charged = [row.key.split(":")[1] for row in await self._rows(_CHARGED)]
        assert sorted(charged) == sorted(str(attempt.disbursement_id) for attempt in paid), "charged and not paid, or twice"
        still_open = [attempt for attempt in attempts if attempt.state in ("written", "accepted", "unknown", "refused")]
        held = [row.key.split(":")[1] for row in await self._rows(_HELD)]
        assert sorted(held) == sorted(str(attempt.disbursement_id) for attempt in still_open)
        assert (await self._rows(_FLOAT))[0][0] == -sum(self._moved(attempt).cents for attempt in paid)
        assert all(row.gap_us <= WIDEST.total_seconds() * 1_000_000 for row in await self._rows(_GAPS))
        self._mifos_has_nothing_twice(paid, await self._rows(_DISBURSEMENTS))
        await self._people_are_told(attempts)

    def _sends(self, attempts: list[Row[Any]]) -> Counter[UUID]:
        sends: Counter[UUID] = Counter()
        for attempt in attempts:
            sends[attempt.disbursement_id] += attempt.sends
        return sends

    def _moved(self, attempt: Row[Any]) -> Money:
        payment = self.bank.book.get(attempt.originator_conversation_id)
        return payment.moved if payment is not None and payment.receipt == attempt.receipt else Money(attempt.amount_cents)

    async def _attempts_are_as_the_bank_has_them(self, attempts: list[Row[Any]]) -> None:
        words = {row.id: (row.attempt_id, row.verdict) for row in await self._rows(_WORDS)}
        for attempt in attempts:
            originator = attempt.originator_conversation_id
            known = self.bank.book.get(originator)
            if attempt.state == "paid":
                if self.wrongly.get(originator) != attempt.receipt:
                    assert known is not None
                    assert (known.fate, known.receipt) == ("0", attempt.receipt)
                assert attempt.loan_state in ("paid", "posting", "disbursed", "needs_review")
            if attempt.state == "failed":
                assert originator not in self.bank.delayed, "called dead, but it is on its way"
                assert known is None or known.fate not in (None, "0") or known.recanted, "called dead, but the bank may pay it"
            if attempt.state in ("paid", "failed"):
                self._its_verdict_has_evidence(attempt, words)

    def _its_verdict_has_evidence(self, attempt: Row[Any], words: dict[UUID, tuple[UUID, str]]) -> None:
        if attempt.result_event_id is None:
            assert attempt.state == "failed"
            assert attempt.originator_conversation_id not in self.bank.book
            told = (attempt.answer or "", attempt.result_text or "")
            assert any(said.startswith(NEVER_TAKEN) for said in told), "a verdict without evidence"
        elif attempt.result_event_id in words:
            assert words[attempt.result_event_id] == (attempt.id, {"paid": "paid", "failed": "not_paid"}[attempt.state])
        else:
            assert self.said[attempt.result_event_id] == (attempt.originator_conversation_id, attempt.state)

    async def _people_are_told(self, attempts: list[Row[Any]]) -> None:
        told = await self._told_in_cases()
        for attempt in attempts:
            payment = self.bank.book.get(attempt.originator_conversation_id)
            if payment is None:
                continue
            heard = (payment.originator, "paid") in self.said.values()
            if attempt.state == "failed" and payment.recanted and heard:
                assert f"contradicting_result attempt {attempt.id} receipt {payment.receipt}" in told
                assert attempt.receipt == payment.receipt
            if attempt.state == "paid" and payment.moved != payment.amount and payment.receipt == attempt.receipt:
                assert f"paid_amount_differs disbursement {attempt.disbursement_id}" in told

    def _mifos_has_nothing_twice(self, paid: list[Row[Any]], disbursements: list[Row[Any]]) -> None:
        standing = Counter(each.receipt for _, each in self.core.standing())
        assert set(standing.values()) <= {1}, "one payment stands twice in Mifos X"
        rightly = {attempt.receipt for attempt in paid if self._moved(attempt).cents == attempt.amount_cents}
        assert set(standing) <= rightly | self.to_undo, "posted and not paid"
        ever = {each.receipt: each.amount for rows in self.core.transactions.values() for each in rows}
        for row in disbursements:
            if row.state == "disbursed":
                assert ever[row.receipt].cents == row.principal_cents, "called disbursed and never posted"

    # and in the end

    async def _come_to_an_end(self) -> None:
        self.bank.mood, self.core.mood = "accept", "post"
        if self.halted:
            await end_halt(self.runtime, reason="all is well", actor="ops:test")
            self.halted = False
        for _ in range(MOST_ROUNDS):
            self.clock.pass_time(minutes=91)
            self.bank.lose_what_waits_too_long()
            await self._put_right()
            await self._let_go()
            await self._outside_tells()
            await self._look_again()
            await self._send()
            await self._post()
            await self._compare()
            if not (left := [row for row in await self._rows(_DISBURSEMENTS) if not _is_over(row)]):
                break
        assert not left, f"no end: {[(row.loan_id, row.tranche, row.state, row.held_for, row.reason) for row in left]}"
        cases = [(row.kind, row.subject) for row in await self._rows(_CASES)]
        with_people = {subject for kind, subject in cases if kind in ITS_CASES}
        late = {row.disbursement_id for row in await self._rows(_ATTEMPTS) if row.state == "failed" and row.receipt}
        for row in await self._rows(_DISBURSEMENTS):
            has_case = f"disbursement {row.id}" in with_people or row.id in late
            assert row.state != "needs_review" or has_case, (
                f"with a person who knows nothing: {row.reason}, {row.receipt}, {cases}"
            )

    async def _let_go(self) -> None:
        for row_id in list(self.kept):
            with suppress(Conflict):  # M-Pesa is asked about it, or it is over, or with a person
                await release_payout(self.runtime, row_id, actor="ops:test", reason="as the client asked")
                del self.kept[row_id]

    async def _outside_tells(self) -> None:
        for payment in self.bank.under_way():
            self.bank.decide(payment, "0")
        for payment in [] if self.deaf else self.bank.decided():
            await self._hear_result(payment, 1)
        await ask_due(self.runtime, self.outside)
        for question in [] if self.deaf else self.bank.questions:
            await self._hear_answer(*question, 1)
        self.bank.questions.clear()


_SIGNS = {b'"Completed"': "paid", b'"Declined"': "failed", b"2033": "failed"}


def _one_of(these: Sequence[Any], which: int) -> Any:
    return these[which % len(these)]


def _is_over(row: Row[Any]) -> bool:
    waits_for_people = row.state == "held" and row.held_for in ("cancelled", "unresolved_payout", "not_approved")
    return row.state in ("needs_review", "disbursed") or waits_for_people


def test_no_order_of_events_pays_or_posts_twice_or_books_what_did_not_happen(database_url: str) -> None:
    run_on_database(Disbursing, database_url, examples=15, steps=30)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_order_of_events_does_so_in_a_long_run(database_url: str) -> None:
    run_on_database(Disbursing, database_url, examples=300, steps=60)
