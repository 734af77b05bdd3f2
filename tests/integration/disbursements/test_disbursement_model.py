"""Any order of sending, dying, answers, results, repeats, time-outs, questions, postings and people's acts, against a bank and a
core banking system that keep their own books; and whatever happened, once the outside is well every payout comes to an end.

A longer run: `./vault test -m campaign tests/integration/disbursements/test_disbursement_model.py`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Row, text

from tests.conftest import StillClock
from tests.integration.disbursements.conftest import CallbackStore
from tests.integration.disbursements.disbursement_model import LOANS, PHONES, Bank, Core, Killed, Outside
from tests.state_machines import run_on_database
from vault_core.clients.mifos import LoanProduct, MifosCapabilities
from vault_core.database import open_async_engine
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.found_loans import FoundLoan, insert_found
from vault_core.disbursements.next_tranches import find_next_tranches
from vault_core.disbursements.payout_halt import begin_halt, end_halt
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.disbursements.posting import post_disbursements
from vault_core.disbursements.recovery import recover_sending
from vault_core.disbursements.resolution_rules import SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import approve_resolution, resolve_payout
from vault_core.disbursements.results import handle_b2c_results, handle_b2c_timeouts
from vault_core.disbursements.review import read_held_again, release_held
from vault_core.disbursements.send_pace import WIDEST
from vault_core.disbursements.sending import send_batch
from vault_core.disbursements.status_queries import ask_due
from vault_core.errors import Conflict, InvalidInput
from vault_core.identifiers import id_maker
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
ANSWERS = (*("accept",) * 4, "lost on the way", "lost on the way back", "spike arrest", "dies before", "dies after")
POSTINGS = (*("post",) * 3, "lost on the way back", "425 for ever", "locked", "conflict", "dies before", "dies after")
SERVERS = (
    MifosCapabilities(status_filter=True, idempotency=True, loan_external_ids=True, savings_external_ids=True),
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

_ADD = text(
    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_capabilities, mpesa_url,"
    " mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
    " VALUES (:id, :name, :name, '', 'default', 'mifos', CAST(:capabilities AS jsonb), '', 'api', :name, :name, '', 'sim', 'L',"
    " :now, :now)"
)
_ATTEMPTS = text(
    "SELECT a.*, d.loan_id, d.tranche, d.state AS loan_state FROM disbursement_attempts a"
    " JOIN disbursements d ON d.id = a.disbursement_id WHERE a.partner_id = :id ORDER BY d.id, a.number"
)
_DISBURSEMENTS = text("SELECT * FROM disbursements WHERE partner_id = :id ORDER BY loan_id, tranche")
_CHARGED = text("SELECT key FROM ledger_transactions WHERE partner_id = :id AND kind = 'charges'")
_HELD = text("SELECT key FROM ledger_holds WHERE partner_id = :id AND state = 'held'")
_FLOAT = text("SELECT coalesce(sum(balance_cents), 0)::bigint FROM ledger_accounts WHERE partner_id = :id AND code = 'b2c_float'")
_CALLS = text("SELECT id FROM outbox WHERE partner_id = :id AND kind = 'disbursement.post' AND state = 'pending' ORDER BY id")
_GAPS = text("SELECT gap_us FROM send_paces WHERE partner_id = :id")
_CASES = text("SELECT subject FROM cases WHERE partner_id = :id AND closed_at IS NULL")


class Disbursing(RuleBasedStateMachine):
    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = StillClock()
        self.bank = Bank()
        self.halted = False
        self.outside: Outside | None = None
        self.http = httpx.AsyncClient(verify=False)  # noqa: S501 - calls nobody
        self.runtime = Runtime(
            engine=open_async_engine(self.database_url), clock=self.clock, new_id=id_maker(self.clock), chance=random.Random(1),
            sealer=Sealer([("test", b"0123456789abcdef0123456789abcdef")]), http=self.http, pace=PACE,
            public_url="http://127.0.0.1:8000",
        )  # fmt: skip
        self.callbacks = CallbackStore()
        self.callbacks.runtime = self.runtime

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(server=st.sampled_from(SERVERS))
    def a_lender_with_loans(self, server: MifosCapabilities) -> None:
        self.core = Core(server)
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

    @precondition(lambda self: self.bank.under_way())
    @rule(data=st.data(), code=st.sampled_from(("0", "0", "0", *FAILURES)))
    def the_bank_decides(self, data: Any, code: str) -> None:
        self.bank.decide(data.draw(st.sampled_from(self.bank.under_way())), code)

    @precondition(lambda self: self.bank.decided())
    @rule(data=st.data(), times=st.sampled_from((1, 2)))
    def a_result_comes(self, data: Any, times: int) -> None:
        payment = data.draw(st.sampled_from(self.bank.decided()))
        self.run(self._tell("b2c_result", self.bank.result(payment), None, handle_b2c_results, times))

    @precondition(lambda self: self.bank.book)
    @rule(data=st.data())
    def a_queue_time_out_comes(self, data: Any) -> None:
        payment = self.bank.book[data.draw(st.sampled_from(sorted(self.bank.book)))]
        self.run(self._tell("b2c_timeout", b"", payment.reference, handle_b2c_timeouts, 1))

    @precondition(lambda self: self.bank.questions)
    @rule(data=st.data(), times=st.sampled_from((1, 1, 2)))
    def a_question_is_answered(self, data: Any, times: int) -> None:
        reference, originator = data.draw(st.sampled_from(self.bank.questions))
        self.run(self._tell("query_result", self.bank.status(originator), reference, handle_query_results, times))

    @precondition(lambda self: self.outside and self.core.standing())
    @rule(data=st.data())
    def somebody_undoes_a_disbursal_in_mifos(self, data: Any) -> None:
        self.core.undo(data.draw(st.sampled_from(sorted({number for number, _ in self.core.standing()}))))

    # what the workers do

    @rule()
    def questions_are_asked(self) -> None:
        self.run(ask_due(self.runtime, self.outside))

    @rule()
    def the_workers_look_again(self) -> None:
        self.run(self._look_again())

    @rule(minutes=st.sampled_from((1, 6, 11, 90, 1500)))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_time(minutes=minutes)

    # what people do

    @rule(data=st.data(), act=st.sampled_from(sorted(ACTS)))
    def a_person_acts(self, data: Any, act: str) -> None:
        row = data.draw(st.sampled_from(self.run(self._rows(_DISBURSEMENTS))))
        with suppress(Conflict):  # the rules forbid it: tests/unit/disbursements/test_person_rules.py
            self.run(ACTS[act](self.runtime, row.id, actor="ops:test", reason="as the client asked"))

    @precondition(lambda self: self.bank.calls)
    @rule(data=st.data())
    def a_person_looks_one_up_and_tells_the_truth(self, data: Any) -> None:
        attempts = self.run(self._rows(_ATTEMPTS))
        if not attempts:
            return
        attempt = data.draw(st.sampled_from(attempts))
        payment = self.bank.book.get(attempt.originator_conversation_id)
        if payment is not None and payment.fate is None:
            return  # the portal shows it under way: nothing to tell
        seen = SeenPaid(payment.receipt) if payment is not None and payment.fate == "0" else SeenUnpaid()
        with suppress(Conflict, InvalidInput):
            self.run(self._resolve(attempt, seen))

    @rule()
    def all_sending_is_halted_or_goes_on(self) -> None:
        act = end_halt if self.halted else begin_halt
        self.run(act(self.runtime, reason="a look at the float", actor="ops:test"))
        self.halted = not self.halted

    async def _resolve(self, attempt: Row[Any], seen: SeenPaid | SeenUnpaid) -> None:
        made = await resolve_payout(
            self.runtime, attempt.disbursement_id, seen, evidence="seen in the portal", actor="ops:test", number=attempt.number
        )
        if made.state == "proposed":
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

    async def _tell(self, purpose: str, body: bytes, reference: str | None, handler: Any, times: int) -> None:
        ids = [await self.callbacks.keep(self.partner.id, purpose, body, reference) for _ in range(times)]
        await handler(self.runtime, self.outside, ids)
        await handler(self.runtime, self.outside, ids)  # redelivery
        async with self.runtime.engine.connect() as connection:
            states = await connection.execute(text("SELECT state, cause FROM inbound_events WHERE id = ANY(:ids)"), {"ids": ids})
            assert {(row.state, row.cause) for row in states} == {("processed", None)}

    async def _rows(self, statement: Any) -> list[Row[Any]]:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(statement, {"id": self.partner.id})).all())

    # what must hold, always

    @invariant()
    def the_bank_pays_each_tranche_once_at_most(self) -> None:
        paid = Counter((payment.loan_id, payment.amount) for payment in self.bank.paid())
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
        self._attempts_are_as_the_bank_has_them(attempts)
        paid = [attempt for attempt in attempts if attempt.state == "paid"]
        assert {row.key for row in await self._rows(_CHARGED)} == {f"charges:{attempt.disbursement_id}" for attempt in paid}
        still_open = [attempt for attempt in attempts if attempt.state in ("written", "accepted", "unknown", "refused")]
        assert {row.key for row in await self._rows(_HELD)} == {f"charges:{attempt.disbursement_id}" for attempt in still_open}
        assert (await self._rows(_FLOAT))[0][0] == -sum(attempt.amount_cents for attempt in paid)
        assert all(row.gap_us <= WIDEST.total_seconds() * 1_000_000 for row in await self._rows(_GAPS))
        self._mifos_has_nothing_twice(paid, await self._rows(_DISBURSEMENTS))

    def _attempts_are_as_the_bank_has_them(self, attempts: list[Row[Any]]) -> None:
        for attempt in attempts:
            known = self.bank.book.get(attempt.originator_conversation_id)
            if attempt.state == "paid":
                assert known is not None
                assert (known.fate, known.receipt) == ("0", attempt.receipt)
                assert attempt.loan_state in ("paid", "posting", "disbursed", "needs_review")
            if attempt.state == "failed":
                assert known is None or known.fate not in (None, "0"), "called dead, but the bank may pay it"
            if attempt.state in ("paid", "failed"):
                by_person = known is None and attempt.answer is not None and attempt.answer.startswith("ended by ops:test")
                assert attempt.result_event_id is not None or by_person, "a verdict without evidence"

    def _mifos_has_nothing_twice(self, paid: list[Row[Any]], disbursements: list[Row[Any]]) -> None:
        standing = Counter(each.receipt for _, each in self.core.standing())
        assert set(standing.values()) <= {1}, "one payment stands twice in Mifos X"
        assert set(standing) <= {attempt.receipt for attempt in paid}, "posted and not paid"
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
            for payment in self.bank.under_way():
                self.bank.decide(payment, "0")
            for payment in self.bank.decided():
                await self._tell("b2c_result", self.bank.result(payment), None, handle_b2c_results, 1)
            await ask_due(self.runtime, self.outside)
            for reference, originator in self.bank.questions:
                await self._tell("query_result", self.bank.status(originator), reference, handle_query_results, 1)
            self.bank.questions.clear()
            await self._look_again()
            await self._send()
            await self._post()
            await self._compare()
            if not (left := [row for row in await self._rows(_DISBURSEMENTS) if not _is_over(row)]):
                break
            self.clock.pass_time(minutes=91)
        assert not left, f"no end: {[(row.loan_id, row.tranche, row.state, row.held_for, row.reason) for row in left]}"
        with_people = {row.subject for row in await self._rows(_CASES)}
        for row in await self._rows(_DISBURSEMENTS):
            assert row.state != "needs_review" or f"disbursement {row.id}" in with_people, (
                f"with a person who knows nothing: {row}"
            )


def _is_over(row: Row[Any]) -> bool:
    waits_for_people = row.state == "held" and row.held_for in ("by_person", "cancelled", "unresolved_payout", "not_approved")
    return row.state in ("needs_review", "disbursed") or waits_for_people


def test_no_order_of_events_pays_or_posts_twice_or_books_what_did_not_happen(database_url: str) -> None:
    run_on_database(Disbursing, database_url, examples=15, steps=30)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_order_of_events_does_so_in_a_long_run(database_url: str) -> None:
    run_on_database(Disbursing, database_url, examples=1500, steps=60)
