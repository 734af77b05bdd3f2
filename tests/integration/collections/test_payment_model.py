"""Any order of payments, postings, people's decisions, undoing, reversals, lost answers and deaths at commits, against an M-Pesa and
a Mifos X that keep their own books: booked once, posted at most once living, given back at most once, and suspense is its cases.

A longer run: `./vault test -m campaign tests/integration/collections/test_payment_model.py`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text

from tests.conftest import StillClock
from tests.integration.collections.office import ANNE, BEN, HANDLERS
from tests.integration.collections.payment_model import NUMBERS, Bank, Core, Outside, dies_at
from tests.integration.disbursements.conftest import CallbackStore
from tests.state_machines import run_on_database
from vault_core.collections.assigning import Wish, approve, assign, lapse_decisions, move, reject, reverse
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.collections.proof import collections_findings
from vault_core.collections.resuming import resume_collections
from vault_core.collections.reversal_sending import advance_reversals
from vault_core.database import in_transaction, open_async_engine
from vault_core.errors import Conflict
from vault_core.identifiers import id_maker
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls
from vault_core.partners.collection_settings import OVERPAYMENTS, set_collection_settings
from vault_core.partners.partner import load_partner
from vault_core.query_answers import handle_query_results
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace

PACE = Pace(http_timeout=1.0, mifos_write_timeout=5.0, assign_alone_up_to=500, outbox_max_tries=6)
MOODS = (*("well",) * 4, "lost on the way back", "away", "conflict", "refuses", "dies before", "dies after")
ANSWERS = (*("accept",) * 3, "busy", "lost on the way", "lost on the way back", "refuses", "dies before", "dies after")
DEATHS = st.one_of(st.none(), st.none(), st.integers(1, 6))
ACCOUNTS = [f"{kind}:{number}" for number, (kind, _) in NUMBERS.items()]
PEOPLE = st.sampled_from((ANNE, BEN))
MOST_ROUNDS = 40

_ADD = text(
    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_capabilities, mpesa_url,"
    " mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
    " VALUES (:id, :name, :name, '', 'default', 'mifos', CAST(:capabilities AS jsonb), '', 'api', :name, :name, '', 'sim', 'L',"
    " :now, :now)"
)
_CAPABILITIES = '{"status_filter": true, "idempotency": true, "loan_external_ids": true, "savings_external_ids": true}'
_COLLECTIONS = text("SELECT * FROM collections WHERE partner_id = :id ORDER BY booked_at, receipt")
_CALLS = text("SELECT id FROM outbox WHERE partner_id = :id AND kind = :kind AND state = 'pending' ORDER BY id")
_CASES = text("SELECT kind, subject FROM cases WHERE partner_id = :id AND closed_at IS NULL")
_OPEN = text("SELECT c.receipt FROM collection_decisions d JOIN collections c ON c.id = d.collection_id WHERE d.partner_id = :id AND d.state = 'approved'")  # fmt: skip


class Paying(RuleBasedStateMachine):
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
        self.paid: dict[str, IncomingPayment] = {}
        self.outside: Outside | None = None

    def run(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(work)  # type: ignore[arg-type]

    @initialize(policy=st.sampled_from(OVERPAYMENTS))
    def a_lender(self, policy: str) -> None:
        self.run(self._open(policy))

    async def _open(self, policy: str) -> None:
        partner_id = self.runtime.new_id()
        async with self.runtime.engine.begin() as connection:
            values = {
                "id": partner_id,
                "name": f"l{partner_id.hex[-12:]}",
                "capabilities": _CAPABILITIES,
                "now": self.clock.now(),
            }
            await connection.execute(_ADD, values)
            self.partner = await load_partner(connection, id=partner_id)
        await set_collection_settings(self.runtime, self.partner, {"overpayment": policy}, actor="ops:test")
        self.outside = Outside(Bank(), Core(), self.partner)

    def teardown(self) -> None:
        async def close() -> None:
            await self.http.aclose()
            async with self.runtime.engine.begin() as connection:  # the next machine has a partner of its own
                await connection.execute(text("UPDATE reversal_requests SET next_at = NULL"))
            await self.runtime.engine.dispose()

        try:
            if self.outside is not None:
                self.run(self._come_to_an_end())
        finally:
            self.run(close())
            self.runner.close()

    # what may happen

    @rule(
        shillings=st.sampled_from((100, 400, 900, 1200)),
        reference=st.sampled_from(("nobody", *NUMBERS)),
        times=st.sampled_from((1, 2)),
    )
    def a_payment_comes(self, shillings: int, reference: str, times: int) -> None:
        self.clock.pass_time(seconds=1)
        receipt = f"U{len(self.paid):05d}{self.partner.name[-6:].upper()}"
        payment = IncomingPayment(
            self.partner.id, self.partner.c2b_short_code, receipt, Money.shillings(shillings), self.clock.now(), "c2b",
            self.runtime.new_id(), None, reference, None, None,
        )  # fmt: skip
        self.paid[receipt] = payment
        for _ in range(times):
            self.run(in_transaction(self.runtime.engine, lambda connection: book_payments(connection, self.runtime, [payment])))

    @rule(
        kind=st.sampled_from(("collection.post", "collection.post", "collection.undo")), mood=st.sampled_from(MOODS), death=DEATHS
    )
    def a_worker_works(self, kind: str, mood: str, death: int | None) -> None:
        self.outside.core.mood = mood
        self._perhaps_dying(death, lambda: self._work(kind))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), account=st.sampled_from(ACCOUNTS), person=PEOPLE, post_all=st.booleans(), death=DEATHS)
    def somebody_assigns(self, data: Any, account: str, person: str, post_all: bool, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        wish = Wish(self._one(data), "as the slip says", account, post_all=post_all)
        self._perhaps_dying(death, lambda: assign(self.runtime, self.outside, wish, actor=person))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), account=st.sampled_from((None, *ACCOUNTS)), person=PEOPLE, death=DEATHS)
    def somebody_moves(self, data: Any, account: str | None, person: str, death: int | None) -> None:
        wish = Wish(self._one(data), "wrong account", account, post_all=True)
        self._perhaps_dying(death, lambda: move(self.runtime, self.outside, wish, actor=person))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), person=PEOPLE, death=DEATHS)
    def somebody_wants_it_given_back(self, data: Any, person: str, death: int | None) -> None:
        self._perhaps_dying(death, lambda: reverse(self.runtime, Wish(self._one(data), "paid by mistake"), actor=person))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), person=PEOPLE, agrees=st.sampled_from((True, True, True, False)), death=DEATHS)
    def somebody_decides(self, data: Any, person: str, agrees: bool, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        receipt = self._one(data)
        if agrees:
            self._perhaps_dying(death, lambda: approve(self.runtime, self.outside, receipt, actor=person))
        else:
            self._perhaps_dying(death, lambda: reject(self.runtime, receipt, reason="no", actor=person))

    @rule(mood=st.sampled_from(ANSWERS), death=DEATHS)
    def reversals_are_sent(self, mood: str, death: int | None) -> None:
        self.outside.bank.mood = mood
        self._perhaps_dying(death, lambda: advance_reversals(self.runtime, self.outside))

    @precondition(lambda self: self.outside.bank.asked)
    @rule(data=st.data(), times=st.sampled_from((1, 2)), named=st.booleans(), death=DEATHS)
    def a_result_comes(self, data: Any, times: int, named: bool, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        asked = data.draw(st.sampled_from(self.outside.bank.asked))
        for _ in range(times):
            event = self.run(self._stored("query_result", asked.body(), asked.reference if named else None))
            self._perhaps_dying(death, lambda event=event: handle_query_results(self.runtime, self.outside, [event]))

    @precondition(lambda self: self.outside.bank.asked)
    @rule(data=st.data())
    def a_queue_time_out_comes(self, data: Any) -> None:
        self.run(self._tell("query_timeout", b"", data.draw(st.sampled_from(self.outside.bank.asked)).reference))

    @rule(minutes=st.sampled_from((1, 6, 90)))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_time(minutes=minutes)
        self.run(lapse_decisions(self.runtime))

    @rule()
    def what_is_with_people_is_taken_up_again(self) -> None:
        self.run(resume_collections(self.runtime, self.partner.name, actor=ANNE, reason="looked at it"))

    # what must hold, always

    @invariant()
    def the_books_hold(self) -> None:
        if self.outside is not None:
            self.run(self._compare())

    async def _compare(self) -> None:
        findings = await collections_findings(self.runtime.engine)
        assert findings == [], findings
        rows = await self._rows(_COLLECTIONS)
        assert sorted(row.receipt for row in rows) == sorted(self.paid), "booked more or less than once"
        bank, core, given_back = self.outside.bank, self.outside.core, ZERO
        for row in rows:
            standing = Money(sum(each.amount.cents for each in core.standing(row.receipt)))
            assert standing.cents <= row.amount_cents, f"posted twice: {core.standing(row.receipt)}"
            assert row.state != "posted" or standing.cents == row.amount_cents or await self._is_being_moved(row), (
                "called posted, and Mifos X has something else"
            )
            assert bank.given_back(row.receipt) <= 1, "given back twice"
            assert not (standing and bank.given_back(row.receipt)) or await self._told_of(row), (
                "given back and posted, and nobody knows"
            )
            if row.state == "reversed":
                assert bank.given_back(row.receipt) == 1
                assert standing == ZERO
                given_back += Money(row.amount_cents)
        paid = Money(sum(payment.amount.cents for payment in self.paid.values()))
        async with self.runtime.engine.connect() as connection:
            held = (await balance(connection, AccountRef(self.partner.id, "c2b_float"))).posted
        assert held == paid - given_back

    async def _is_being_moved(self, row: Any) -> bool:
        """Whether its undoing may have reached Mifos X, and either the answer is still asked for or a person was told."""
        approved = text(
            "SELECT c.receipt FROM collection_decisions d JOIN collections c ON c.id = d.collection_id"
            " WHERE c.partner_id = :id AND c.receipt = :receipt AND d.kind = 'move' AND d.state = 'approved'"
        )
        kinds = {case.kind for case in await self._rows(_CASES) if row.receipt in case.subject}
        return "collection_not_moved" in kinds or bool(await self._rows(approved, receipt=row.receipt))

    async def _told_of(self, row: Any) -> bool:
        """Whether M-Pesa's success has not been heard yet, or a case says that it contradicts."""
        kinds = {case.kind for case in await self._rows(_CASES) if row.receipt in case.subject}
        heard = await self._rows(
            text("SELECT state FROM reversal_requests WHERE partner_id = :id AND receipt = :receipt"), receipt=row.receipt
        )
        return "contradicting_reversal" in kinds or all(each.state != "done" for each in heard)

    # and in the end

    async def _come_to_an_end(self) -> None:
        bank, core = self.outside.bank, self.outside.core
        bank.mood, core.mood = "accept", "well"
        for _ in range(MOST_ROUNDS):
            for kind in ("collection.post", "collection.undo"):
                await self._work(kind)
            await advance_reversals(self.runtime, self.outside)
            for asked in list(bank.asked):
                await self._tell("query_result", asked.body(), asked.reference)
            by_originator = {asked.originator: asked for asked in bank.asked}
            for reference, originator in bank.questions:
                await self._tell("query_result", by_originator[originator].status(), reference)
            bank.questions.clear()
            await self._compare()
            rows = await self._rows(_COLLECTIONS)
            left = [row for row in rows if row.state in ("matching", "posting")] + list(await self._rows(_OPEN))
            people = {(case.kind, case.subject.split(" ")[-1]) for case in await self._rows(_CASES)}
            left = [row for row in left if ("reversal_unknown", row.receipt) not in people]
            if not left:
                break
            self.clock.pass_time(minutes=31)
        assert not left, f"no end: {left}"
        wanted = {"suspense": "unmatched_payment", "needs_review": "collection_not_posted", "reversing": "reversal_unknown"}
        for row in rows:
            assert row.state not in wanted or (wanted[row.state], row.receipt) in people, (
                f"with a person who knows nothing: {row}"
            )

    # how

    def _one(self, data: Any) -> str:
        return data.draw(st.sampled_from(sorted(self.paid)))

    def _perhaps_dying(self, death: int | None, work: Callable[[], Awaitable[Any]]) -> None:
        with dies_at(death), suppress(Conflict, LookupError):
            self.run(_forgiving(work()))

    async def _work(self, kind: str) -> None:
        ids = [row.id for row in await self._rows(_CALLS, kind=kind)]
        await HANDLERS[kind](self.runtime, self.outside, await claim_calls(self.runtime, ids))

    async def _tell(self, purpose: str, body: bytes, reference: str | None) -> None:
        await handle_query_results(self.runtime, self.outside, [await self._stored(purpose, body, reference)])

    async def _stored(self, purpose: str, body: bytes, reference: str | None) -> UUID:
        return await self.callbacks.keep(self.partner.id, purpose, body, reference)

    async def _rows(self, statement: Any, **values: Any) -> list[Any]:
        async with self.runtime.engine.connect() as connection:
            return list((await connection.execute(statement, {"id": self.partner.id, **values})).all())


async def _forgiving(work: Awaitable[Any]) -> None:
    """A person who is refused has been told so; nothing else may go wrong."""
    from vault_core.errors import NotFound

    with suppress(Conflict, NotFound):
        await work


def test_no_order_of_events_books_posts_or_gives_back_twice_and_suspense_is_its_cases(database_url: str) -> None:
    run_on_database(Paying, database_url, examples=8, steps=25)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_order_of_events_does_so_in_a_long_run(database_url: str) -> None:
    run_on_database(Paying, database_url, examples=1500, steps=60)
