"""Money that customers move, and the seven that tell of it: in any order, any number of times, several together, dying in between.

Validation, confirmation (v1, v2 and the old shapes), STK callback, answers to STK questions, rows of pulls and of statements, each
through its real way in. A machine that builds on this one adds what people and workers do about the payments.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text

from tests.conftest import StillClock
from tests.integration.collections.feeds import PHONE, Paid, paid, tell_by_pull, tell_by_statement
from tests.integration.collections.payment_model import NUMBERS, Bank, Core, Outside, Prompted, dies_at
from tests.integration.disbursements.conftest import CallbackStore
from vault_core.clients.daraja_stk import Fate
from vault_core.collections.confirmations import handle_confirmations
from vault_core.collections.proof import collections_findings
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.collections.stk_following import follow_prompts
from vault_core.collections.stk_results import handle_stk_results
from vault_core.collections.validating import answer_questions, load_validated_partners, read_question
from vault_core.database import in_transaction, open_async_engine
from vault_core.errors import Conflict, NotFound, RemoteBusy
from vault_core.identifiers import id_maker
from vault_core.money import Money
from vault_core.partners.collection_settings import OVERPAYMENTS, set_collection_settings
from vault_core.partners.partner import Partner, load_partner
from vault_core.query_answers import handle_query_results
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace

PACE = Pace(http_timeout=1.0, mifos_write_timeout=5.0, assign_alone_up_to=500, outbox_max_tries=6)
ANSWERS = (*("accept",) * 3, "busy", "lost on the way", "lost on the way back", "refuses", "dies before", "dies after")
DEATHS = st.one_of(st.none(), st.none(), st.integers(1, 6))
TIMES = st.sampled_from((1, 1, 2))
CONFIRMATIONS = ("v1", "v2", "legacy")
WORDS = st.sampled_from((*CONFIRMATIONS, "pull", "blank pull", "statement", "validation"))
SHILLINGS = st.sampled_from((100, 400, 900, 1200))
NOBODY = "nobodys77"  # what a payer typed, and no account has
REFERENCES = st.sampled_from((NOBODY, NOBODY, *NUMBERS))
DELIVERIES = {
    "c2b_confirmation": handle_confirmations,
    "stk_result": handle_stk_results,
    "query_result": handle_query_results,
    "query_timeout": handle_query_results,
}

_LENDERS = text("SELECT count(*) FROM partners")
_ADD = text(
    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_capabilities, mpesa_url,"
    " mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
    " VALUES (:id, :name, :name, '', 'default', 'mifos', CAST(:capabilities AS jsonb), '', 'api', :b2c, :c2b, '', 'sim', 'L',"
    " :now, :now)"
)
_CAPABILITIES = '{"status_filter": true, "idempotency": true, "loan_external_ids": true, "savings_external_ids": true}'
COLLECTIONS = text("SELECT * FROM collections WHERE partner_id = :id ORDER BY booked_at, receipt")
_STORED = text("SELECT id, purpose FROM inbound_events WHERE partner_id = :id AND state <> 'processed' ORDER BY id")
_LEDGER = text(
    """
    SELECT a.code, sum(e.amount_cents)::bigint AS cents FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
    WHERE a.partner_id = :id GROUP BY a.code
    """
)
_BOOKED = text(
    """
    SELECT c.receipt,
           (SELECT count(*) FROM ledger_transactions t WHERE t.kind = 'collection' AND t.reference = c.receipt) AS booked,
           (SELECT count(*) FROM rail_lines r WHERE r.rail = 'mpesa_c2b' AND r.receipt = c.receipt) AS lines,
           (SELECT count(*) FROM outbox o WHERE o.kind = 'collection.post' AND o.subject = c.id::text) AS calls,
           (SELECT count(*) FROM ledger_transactions t WHERE t.kind = 'charges' AND t.reference = c.receipt) AS charged
    FROM collections c WHERE c.partner_id = :id
    """
)
_CHARGED = text(
    """
    SELECT coalesce(sum(l.amount_cents), 0)::bigint AS cents FROM charge_lines l
    WHERE l.partner_id = :id AND l.transaction_id IS NOT NULL AND l.subject_kind = 'collection'
    """
)
_UNMATCHED = text(
    "SELECT coalesce(sum(amount_cents), 0)::bigint AS cents FROM cases"
    " WHERE partner_id = :id AND kind = 'unmatched_payment' AND closed_at IS NULL"
)
OPEN_CASES = text("SELECT kind, subject FROM cases WHERE partner_id = :id AND closed_at IS NULL")
_IN_CLEAR = text("SELECT kind, evidence FROM cases WHERE partner_id = :id AND evidence::text ~ :secret")
_PROMPT = text("SELECT id, receipt, receipt_from FROM stk_requests WHERE partner_id = :id")


class Telling(RuleBasedStateMachine):
    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = StillClock()
        self.http = httpx.AsyncClient(verify=False)  # noqa: S501 - calls nobody
        self.runtime = Runtime(
            engine=open_async_engine(self.database_url), clock=self.clock, new_id=id_maker(self.clock), chance=random.Random(1),
            sealer=Sealer([("test", b"0123456789abcdef0123456789abcdef")]), http=self.http, pace=PACE,
            public_url="http://127.0.0.1:8000",
        )  # fmt: skip
        self.callbacks = CallbackStore()
        self.callbacks.runtime = self.runtime
        self.outside: Outside | None = None
        self.partner: Partner
        self.money: dict[str, Paid] = {}  # what customers moved, by receipt
        self.told: set[str] = set()  # of which a telling began
        self.perhaps: set[str] = set()  # which callbacks named whose request may be found later only
        self.sure: set[str] = set()  # of which one was taken to its end
        self.contradicted: set[str] = set()
        self.cut_off: list[tuple[str, list[Paid]]] = []  # in which a process died, perhaps before it kept them: told again
        self.asked = 0

    def run(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(work)  # type: ignore[arg-type]

    @initialize(policy=st.sampled_from(OVERPAYMENTS))
    def a_lender(self, policy: str) -> None:
        self.run(self._open(policy))

    async def _open(self, policy: str) -> None:
        partner_id = self.runtime.new_id()
        async with self.runtime.engine.begin() as connection:
            number = int((await connection.execute(_LENDERS)).scalar_one())
            values = {"id": partner_id, "name": f"l{number}", "b2c": f"{700_000 + number}", "c2b": f"{600_000 + number}"}
            await connection.execute(_ADD, values | {"capabilities": _CAPABILITIES, "now": self.clock.now()})
            self.partner = await load_partner(connection, id=partner_id)
        await set_collection_settings(self.runtime, self.partner, {"overpayment": policy}, actor="ops:test")
        self.outside = Outside(Bank(), Core(), self.partner)

    # what may happen

    @rule(shillings=SHILLINGS, reference=REFERENCES, word=WORDS, times=TIMES, death=DEATHS)
    def a_customer_pays(self, shillings: int, reference: str, word: str, times: int, death: int | None) -> None:
        self._tell(word, [self._moved(shillings, reference)] * times, death)

    @precondition(lambda self: self.money)
    @rule(data=st.data(), word=WORDS, death=DEATHS)
    def payments_are_told_together(self, data: Any, word: str, death: int | None) -> None:
        receipts = data.draw(st.lists(st.sampled_from(sorted(self.money)), min_size=1, max_size=4))
        self._tell(word, [self.money[receipt] for receipt in receipts], death)

    @precondition(lambda self: self.sure)
    @rule(data=st.data(), word=WORDS, death=DEATHS)
    def a_telling_contradicts(self, data: Any, word: str, death: int | None) -> None:
        known = self.money[data.draw(st.sampled_from(sorted(self.sure)))]
        self._tell(word, [replace(known, cents=known.cents + 1_00)], death)
        if word != "validation" and death is None:
            self.contradicted.add(known.receipt)

    @rule(shillings=SHILLINGS, reference=REFERENCES, pays=st.booleans(), mood=st.sampled_from(ANSWERS), death=DEATHS)
    def a_customer_is_prompted(self, shillings: int, reference: str, pays: bool, mood: str, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        bank, before = self.outside.bank, len(self.outside.bank.prompts)
        receipt = self._next_receipt()
        bank.mood, bank.pays = mood, receipt if pays else None
        self.asked += 1
        wish = StkWish(
            self.partner.id, f"k{self.asked}", Money.shillings(shillings), PHONE, reference, "loan", "ops:test", "at the counter"
        )
        self._perhaps_dying(death, lambda: ask_to_pay(self.runtime, self.outside, wish))
        if pays and len(bank.prompts) > before:
            self._moved(shillings, reference)

    @precondition(lambda self: self.outside.bank.prompts)
    @rule(data=st.data(), bare=st.booleans(), named=st.booleans(), times=TIMES, death=DEATHS)
    def a_prompt_is_called_back(self, data: Any, bare: bool, named: bool, times: int, death: int | None) -> None:  # noqa: FBT001 - drawn values
        prompt = data.draw(st.sampled_from(list(self.outside.bank.prompts.values())))
        self.run(self._call_back(prompt, bare=bare, named=named, times=times, death=death))

    @rule(fate=st.sampled_from((None, None, *Fate)), seconds=st.sampled_from((80, 1000, 8000)), death=DEATHS)
    def prompts_are_asked_about(self, fate: Fate | None, seconds: int, death: int | None) -> None:
        self.outside.bank.fate = fate
        self.clock.pass_time(seconds=seconds)
        self._perhaps_dying(death, lambda: follow_prompts(self.runtime, self.outside))

    @rule(death=DEATHS)
    def what_is_stored_is_offered_again(self, death: int | None) -> None:
        self._perhaps_dying(death, self._sweep)

    # what must hold, always

    @invariant()
    def the_books_hold(self) -> None:
        if self.outside is not None:
            self.run(self._compare())

    async def _compare(self) -> None:
        """Each payment that was told is booked once and as it was paid; suspense is its open cases, by the ledger's own entries."""
        findings = await collections_findings(self.runtime.engine)
        assert findings == [], findings
        rows = await self._rows(COLLECTIONS)
        receipts = [row.receipt for row in rows]
        assert len(receipts) == len(set(receipts)), "booked twice"
        assert self.sure <= set(receipts) <= self.told | self.perhaps, "told and not booked, or booked and not told"
        assert {row.receipt: row.amount_cents for row in rows} == {one: self.money[one].cents for one in receipts}
        for row in await self._rows(_BOOKED):
            assert (row.booked, row.lines, row.calls) == (1, 1, 1), f"booked more or less than once: {row}"
            assert row.charged <= 1, f"charged twice: {row}"
        ledger = await self._ledger()
        given_back = sum(row.amount_cents for row in rows if row.state == "reversed")
        assert ledger["c2b_float"] == sum(row.amount_cents for row in rows) - given_back
        [unmatched], [charged] = await self._rows(_UNMATCHED), await self._rows(_CHARGED)
        in_suspense = sum(row.amount_cents for row in rows if row.in_suspense)
        assert -ledger["suspense"] == unmatched.cents == in_suspense, "suspense is not its open cases"
        assert ledger["wallet"] == charged.cents, "charged otherwise than written down"
        cases = {(case.kind, case.subject.split(" ")[-1]) for case in await self._rows(OPEN_CASES)}
        assert {("receipt_conflict", receipt) for receipt in self.contradicted} <= cases, "a contradiction nobody was told of"
        assert await self._rows(_IN_CLEAR, secret=f"{PHONE}|{NOBODY}") == [], (
            "a phone or what a payer typed is in a case in clear"
        )
        prompts = [row for row in await self._rows(_PROMPT) if row.receipt is not None]
        truth = {prompt.request: prompt.receipt for prompt in self.outside.bank.prompts.values()}
        assert len({row.receipt for row in prompts}) == len(prompts), "two prompts have the same money"
        for row in prompts:
            assert row.receipt_from == "payment" or truth[row.id.hex] == row.receipt

    async def _ledger(self) -> Counter[str]:
        """The partner's balances, by its entries."""
        return Counter({row.code: row.cents for row in await self._rows(_LEDGER)})

    async def _all_is_told(self) -> None:
        """What dead processes left is taken up: deliveries by the sweep, the rest by being told or read again."""
        await self._sweep()
        for word, payments in self.cut_off:
            await self._by(word, payments)
        self.cut_off.clear()
        self.sure |= self.told

    # how

    def _next_receipt(self) -> str:
        return f"U{len(self.money):05d}{self.partner.c2b_short_code}"

    def _moved(self, shillings: int, reference: str) -> Paid:
        self.clock.pass_time(seconds=1)
        receipt = self._next_receipt()
        self.money[receipt] = paid(
            receipt, self.clock.now(), shillings * 100, reference=reference, short_code=self.partner.c2b_short_code
        )
        return self.money[receipt]

    def _tell(self, word: str, payments: Sequence[Paid], death: int | None) -> None:
        receipts = {one.receipt for one in payments}
        if word != "validation":
            self.told |= receipts
        lived = self._perhaps_dying(death, lambda: self._by(word, payments))
        if lived and word != "validation":
            self.sure |= receipts
        elif word != "validation":
            self.cut_off.append((word, list(payments)))

    async def _by(self, word: str, payments: Sequence[Paid]) -> None:
        match word:
            case "validation":
                await self._ask(payments)
            case "pull":
                await tell_by_pull(self, *payments)
            case "blank pull":  # without what the payer typed
                await tell_by_pull(self, *(replace(one, reference="") for one in payments))
            case "statement":
                await tell_by_statement(self, *payments)
            case version:
                ids = [await self._stored("c2b_confirmation", one.confirmation(version), None) for one in payments]
                await handle_confirmations(self.runtime, self.outside, ids)

    async def _ask(self, payments: Sequence[Paid]) -> None:
        async with self.runtime.engine.connect() as connection:
            partner = (await load_validated_partners(connection))[self.partner.id]
        now = self.clock.now()
        questions = [read_question(self.runtime.new_id(), partner, one.confirmation(), now) for one in payments]
        much = timedelta(minutes=1)

        async def answer(connection: Any) -> None:
            await answer_questions(connection, self.runtime.sealer, questions, believed_for=much, within=much)

        await in_transaction(self.runtime.engine, answer)

    async def _call_back(self, prompt: Prompted, *, bare: bool, named: bool, times: int, death: int | None) -> None:
        reference = prompt.request if named else None
        body = prompt.callback(PHONE, bare=bare)
        ids = [await self._stored("stk_result", body, reference) for _ in range(times)]
        known = await self._rows(text("SELECT id FROM stk_requests WHERE partner_id = :id AND checkout_hash IS NOT NULL"))
        found = named or UUID(prompt.request) in {row.id for row in known}
        names = prompt.receipt is not None and not bare and found
        if prompt.receipt is not None:
            (self.told if names else self.perhaps).add(prompt.receipt)
        lived = False
        with dies_at(death):
            await handle_stk_results(self.runtime, self.outside, ids)
            lived = True
        if names and lived:
            self.sure.add(prompt.receipt)

    async def _sweep(self) -> None:
        for row in await self._rows(_STORED):
            await DELIVERIES[row.purpose](self.runtime, self.outside, [row.id])

    def _perhaps_dying(self, death: int | None, work: Callable[[], Awaitable[Any]]) -> bool:
        """Whether the work was done to its end; a person who is refused has been told so, and nothing else may go wrong."""
        with dies_at(death):
            with suppress(Conflict, NotFound, RemoteBusy):
                self.run(work())
            return True
        return False

    async def _stored(self, purpose: str, body: bytes, reference: str | None) -> UUID:
        return await self.callbacks.keep(self.partner.id, purpose, body, reference)

    async def _rows(self, statement: Any, **values: Any) -> list[Any]:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(statement, {"id": self.partner.id, **values})).all())
