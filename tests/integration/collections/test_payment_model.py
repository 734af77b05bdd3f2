"""Any order of all that tells of payments (telling_machine.py), postings, people's decisions, undoing, reversals, lost answers and
deaths at commits, against an M-Pesa and a Mifos X that keep their own books: booked once, posted at most once living, given back at
most once, and suspense is its cases.

A longer run: `./vault test -m campaign tests/integration/collections/test_payment_model.py`.
"""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import text

from tests.integration.collections.office import ANNE, BEN, HANDLERS
from tests.integration.collections.payment_model import NUMBERS
from tests.integration.collections.telling_machine import (
    ANSWERS,
    COLLECTIONS,
    DEATHS,
    NOBODY,
    OPEN_CASES,
    PACE,
    REFERENCES,
    SHILLINGS,
    Telling,
)
from tests.state_machines import run_on_database
from vault_core.collections.assigning import Wish, approve, assign, lapse_decisions, move, reject, reverse
from vault_core.collections.resuming import resume_collections
from vault_core.collections.reversal_seen import as_given_back, state_reversal
from vault_core.collections.reversal_sending import advance_reversals
from vault_core.money import ZERO, Money
from vault_core.outbox.calls import claim_calls
from vault_core.query_answers import handle_query_results

MOODS = (*("well",) * 4, "lost on the way back", "away", "conflict", "refuses", "cannot be read", "dies before", "dies after")
ACCOUNTS = [f"{kind}:{number}" for number, (kind, _) in NUMBERS.items()]
PEOPLE = st.sampled_from((ANNE, BEN))
CALLS = ("collection.post", "collection.undo")
MOST_ROUNDS = 40

_CALLS = text("SELECT id FROM outbox WHERE partner_id = :id AND kind = :kind AND state = 'pending' ORDER BY id")
# What needs two people and was agreed to by its proposer: money that leaves, and amounts above one person's limit.
_ALONE = text(
    "SELECT kind, amount_cents FROM collection_decisions WHERE partner_id = :id AND state IN ('approved', 'done', 'failed')"
    " AND decided_by = proposed_by AND (kind = 'reverse' OR amount_cents > :limit)"
)
_WAITING = text(
    "SELECT c.receipt, d.proposed_by FROM collection_decisions d JOIN collections c ON c.id = d.collection_id"
    " WHERE d.partner_id = :id AND d.state = 'proposed' ORDER BY c.receipt"
)
_FAILED_UNHEARD = text("SELECT id FROM reversal_requests WHERE partner_id = :id AND state = 'failed' AND result_event_id IS NULL")
_OPEN = text("SELECT c.receipt FROM collection_decisions d JOIN collections c ON c.id = d.collection_id WHERE d.partner_id = :id AND d.state = 'approved'")  # fmt: skip


class Paying(Telling):
    def teardown(self) -> None:
        async def close() -> None:
            await self.http.aclose()
            async with self.runtime.engine.begin() as connection:  # the next machine has a partner of its own
                await connection.execute(text("UPDATE reversal_requests SET next_at = NULL"))
                await connection.execute(text("UPDATE stk_requests SET look_at = NULL"))
            await self.runtime.engine.dispose()

        try:
            if self.outside is not None:
                self.run(self._come_to_an_end())
        finally:
            self.run(close())
            self.runner.close()

    # what may happen

    @rule(mood=st.sampled_from(MOODS), death=DEATHS)
    def a_worker_works(self, mood: str, death: int | None) -> None:
        self.outside.core.mood = mood
        for kind in CALLS:
            self._perhaps_dying(death, lambda kind=kind: self._work(kind))

    @rule(mood=st.sampled_from(("lost on the way back", "away", "refuses", "cannot be read")))
    def mifos_x_is_unwell_for_long(self, mood: str) -> None:
        for _ in range(PACE.outbox_max_tries):
            self.a_worker_works(mood, None)
            self.clock.pass_time(minutes=31)

    @rule(pays=st.lists(st.tuples(SHILLINGS, REFERENCES), min_size=1, max_size=3))
    def payments_come_and_are_worked_on(self, pays: list[tuple[int, str]]) -> None:
        self._tell("v2", [self._moved(*each) for each in pays], None)
        self.a_worker_works("well", None)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), account=st.sampled_from(ACCOUNTS), person=PEOPLE, post_all=st.booleans(), death=DEATHS)
    def somebody_assigns(self, data: Any, account: str, person: str, post_all: bool, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        wish = Wish(self._one(data, "suspense", "needs_review"), "as the slip says", account, post_all=post_all)
        self._perhaps_dying(death, lambda: assign(self.runtime, self.outside, wish, actor=person))

    @precondition(lambda self: self.told)
    @rule(data=st.data(), account=st.sampled_from((None, *ACCOUNTS)), person=PEOPLE, death=DEATHS)
    def somebody_moves(self, data: Any, account: str | None, person: str, death: int | None) -> None:
        wish = Wish(self._one(data, "posted"), "wrong account", account, post_all=True)
        self._perhaps_dying(death, lambda: move(self.runtime, self.outside, wish, actor=person))

    @precondition(lambda self: self.told)
    @rule(data=st.data(), person=PEOPLE, death=DEATHS)
    def somebody_wants_it_given_back(self, data: Any, person: str, death: int | None) -> None:
        wish = Wish(self._one(data, "suspense"), "paid by mistake")
        self._perhaps_dying(death, lambda: reverse(self.runtime, wish, actor=person))

    @precondition(lambda self: self.told)
    @rule(data=st.data(), person=PEOPLE, agrees=st.sampled_from((True, True, True, False)), death=DEATHS)
    def somebody_decides(self, data: Any, person: str, agrees: bool, death: int | None) -> None:  # noqa: FBT001 - a drawn value
        waiting = [row.receipt for row in self.run(self._rows(_WAITING)) if row.proposed_by != person]
        receipt = data.draw(st.sampled_from(waiting * 3 + sorted(self.told)))
        if agrees:
            self._perhaps_dying(death, lambda: approve(self.runtime, self.outside, receipt, actor=person))
        else:
            self._perhaps_dying(death, lambda: reject(self.runtime, receipt, reason="no", actor=person))

    @rule(shillings=SHILLINGS, mood=st.sampled_from(ANSWERS), told=st.booleans())
    def what_is_nobodys_is_given_back(self, shillings: int, mood: str, told: bool) -> None:  # noqa: FBT001 - a drawn value
        """The whole way at once, as far as M-Pesa lets it go: drawn act by act it is seldom gone to its end."""
        self.payments_come_and_are_worked_on([(shillings, NOBODY)])
        receipt = max(self.money)
        self._perhaps_dying(None, lambda: reverse(self.runtime, Wish(receipt, "paid by mistake"), actor=ANNE))
        self._perhaps_dying(None, lambda: approve(self.runtime, self.outside, receipt, actor=BEN))
        self.reversals_are_sent(mood, None)
        for asked in [one for one in self.outside.bank.asked if told and one.receipt == receipt]:
            self.run(self._answer("query_result", asked.body(), asked.reference))

    @rule(
        shillings=SHILLINGS,
        number=st.sampled_from(sorted(NUMBERS)),
        mood=st.sampled_from(MOODS),
        to=st.sampled_from((None, *ACCOUNTS)),
    )
    def what_was_posted_is_moved(self, shillings: int, number: str, mood: str, to: str | None) -> None:
        self.payments_come_and_are_worked_on([(shillings, number)])
        wish = Wish(max(self.money), "wrong account", to, post_all=True)
        self._perhaps_dying(None, lambda: move(self.runtime, self.outside, wish, actor=ANNE))
        self.a_worker_works(mood, None)

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
        self.run(self._answer("query_timeout", b"", data.draw(st.sampled_from(self.outside.bank.asked)).reference))

    @precondition(lambda self: self.outside.bank.asked)
    @rule(data=st.data(), person=PEOPLE, death=DEATHS)
    def somebody_looks_in_the_portal(self, data: Any, person: str, death: int | None) -> None:
        receipt = data.draw(st.sampled_from(sorted({asked.receipt for asked in self.outside.bank.asked})))
        own = [asked.own for asked in self.outside.bank.asked if asked.receipt == receipt and asked.code == "0"]
        seen = as_given_back(own[0], self.clock.now()) if own else None
        self._perhaps_dying(
            death, lambda: state_reversal(self.runtime, receipt, seen, evidence="the portal's page", actor=person)
        )

    @rule(minutes=st.sampled_from((1, 6, 90)))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_time(minutes=minutes)
        self.run(lapse_decisions(self.runtime))

    @rule()
    def what_is_with_people_is_taken_up_again(self) -> None:
        self.run(resume_collections(self.runtime, self.partner.name, actor=ANNE, reason="looked at it"))

    # what must hold, always

    async def _compare(self) -> None:
        await super()._compare()
        bank, core = self.outside.bank, self.outside.core
        rows = await self._rows(COLLECTIONS)
        ledger = await self._ledger()
        posted = sum(row.amount_cents for row in rows if row.state == "posted")
        assert -ledger["loan_book"] - ledger["savings_book"] == posted, "the partner's books have something else than is posted"
        assert await self._rows(_ALONE, limit=PACE.assign_alone_up_to * 100) == [], "one person did what needs two"
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

        given = {asked.reference for asked in bank.asked if asked.code == "0"}
        unheard = {row.id.hex for row in await self._rows(_FAILED_UNHEARD)}
        assert not given & unheard, "called failed by no word of M-Pesa, and it was given back"

    async def _is_being_moved(self, row: Any) -> bool:
        """Whether its undoing may have reached Mifos X, and either the answer is still asked for or a person was told."""
        approved = text(
            "SELECT c.receipt FROM collection_decisions d JOIN collections c ON c.id = d.collection_id"
            " WHERE c.partner_id = :id AND c.receipt = :receipt AND d.kind = 'move' AND d.state = 'approved'"
        )
        kinds = {case.kind for case in await self._rows(OPEN_CASES) if row.receipt in case.subject}
        return "collection_not_moved" in kinds or bool(await self._rows(approved, receipt=row.receipt))

    async def _told_of(self, row: Any) -> bool:
        """Whether M-Pesa's success has not been heard yet, or a case says that it contradicts."""
        kinds = {case.kind for case in await self._rows(OPEN_CASES) if row.receipt in case.subject}
        heard = await self._rows(
            text("SELECT state FROM reversal_requests WHERE partner_id = :id AND receipt = :receipt"), receipt=row.receipt
        )
        return "contradicting_reversal" in kinds or all(each.state != "done" for each in heard)

    # and in the end

    async def _come_to_an_end(self) -> None:
        bank, core = self.outside.bank, self.outside.core
        bank.mood, core.mood, bank.fate = "accept", "well", None
        await self._all_is_told()
        for _ in range(MOST_ROUNDS):
            for kind in CALLS:
                await self._work(kind)
            await advance_reversals(self.runtime, self.outside)
            for asked in list(bank.asked):
                await self._answer("query_result", asked.body(), asked.reference)
            by_originator = {asked.originator: asked for asked in bank.asked}
            for reference, originator in bank.questions:
                await self._answer("query_result", by_originator[originator].status(), reference)
            bank.questions.clear()
            await self._compare()
            rows = await self._rows(COLLECTIONS)
            left = [row for row in rows if row.state in ("matching", "posting")] + list(await self._rows(_OPEN))
            people = {(case.kind, case.subject.split(" ")[-1]) for case in await self._rows(OPEN_CASES)}
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

    def _one(self, data: Any, *states: str) -> str:
        """Rather one in these states: of others people are told that it is not its time."""
        fitting = [row.receipt for row in self.run(self._rows(COLLECTIONS)) if row.state in states]
        return data.draw(st.sampled_from(fitting * 3 + sorted(self.told)))

    async def _work(self, kind: str) -> None:
        ids = [row.id for row in await self._rows(_CALLS, kind=kind)]
        await HANDLERS[kind](self.runtime, self.outside, await claim_calls(self.runtime, ids))

    async def _answer(self, purpose: str, body: bytes, reference: str | None) -> None:
        await handle_query_results(self.runtime, self.outside, [await self._stored(purpose, body, reference)])


def test_no_order_of_events_books_posts_or_gives_back_twice_and_suspense_is_its_cases(database_url: str) -> None:
    run_on_database(Paying, database_url, examples=8, steps=25)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_order_of_events_does_so_in_a_long_run(database_url: str) -> None:
    run_on_database(Paying, database_url, examples=1500, steps=60)
