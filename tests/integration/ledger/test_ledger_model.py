"""The ledger against a model in plain Python: any sequence of acts, on real PostgreSQL, ends where the model says."""

import asyncio
import random
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from vault_core.database import in_transaction, open_async_engine
from vault_core.errors import Conflict, InvalidInput
from vault_core.identifiers import id_maker
from vault_core.ledger.balances import trial_balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import HoldRequest, Short, expire_holds, keep_holds, place_holds
from vault_core.ledger.posting import Posting, reversal_of
from vault_core.ledger.sealing import seal_due
from vault_core.ledger.verification import verify_ledger_async
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.settings import Pace

T = TypeVar("T")
AMOUNTS = st.integers(min_value=1, max_value=10_000_00)


@dataclass
class ModelHold:
    id: UUID
    key: str
    cents: int
    capture: Posting | None = None
    released: bool = False
    expired: bool = False
    expires_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.capture is None and not self.released and not self.expired


@dataclass(frozen=True)
class Act:
    """One of several acts at once on a wallet. `what`: post (wallet + cents), hold, capture, release; `on`: the hold's id."""

    what: str
    cents: int = 0
    key: str = ""
    on: UUID | None = None


@dataclass
class Wallet:
    """The model of one wallet in its plainest form, for trying orders."""

    posted: int
    open: dict[UUID, int]
    ended: dict[UUID, str]
    keys: dict[str, int]

    def available(self) -> int:
        return self.posted - sum(self.open.values())

    def do(self, act: Act) -> str:
        """What the act comes to now: done, again (it was done before), short or conflict."""
        if act.what == "post" and act.key in self.keys:
            return "done" if self.keys[act.key] == act.cents else "conflict"
        if act.what == "post":
            self.keys[act.key] = act.cents
            self.posted += act.cents
            return "done"
        if act.what == "hold":
            if act.cents > self.available():
                return "short"
            self.open[uuid4()] = act.cents
            return "done"
        assert act.on is not None
        if act.on not in self.open:
            return "again" if act.what == "release" and self.ended[act.on] == "release" else "conflict"
        del self.open[act.on]
        self.ended[act.on] = act.what
        self.posted -= act.cents if act.what == "capture" else 0
        return "done"

    def after(self, order: Sequence[Act]) -> tuple[dict[Act, str], int, int]:
        """What each act comes to in this order, and posted and available at the end."""
        trial = Wallet(self.posted, dict(self.open), dict(self.ended), dict(self.keys))
        outcomes = {act: trial.do(act) for act in order}
        return outcomes, trial.posted, trial.available()


class LedgerMachine(RuleBasedStateMachine):
    """Two partners; the model knows what each wallet has posted and held, and every key that was used."""

    def __init__(self, runner: asyncio.Runner, book, number: Iterator[int]) -> None:
        super().__init__()
        self.runner, self.book, self.number = runner, book, number
        self.posted: dict[UUID, int] = {}
        self.posts: list[tuple[UUID, Posting]] = []
        self.reversed: set[UUID] = set()
        self.holds: dict[UUID, list[ModelHold]] = {}

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def new_key(self) -> str:
        return f"k{next(self.number)}"

    def available(self, partner: UUID) -> int:
        return self.posted[partner] - sum(hold.cents for hold in self.holds[partner] if hold.is_open)

    def record(self, ids: list[UUID], postings: list[Posting]) -> None:
        for transaction_id, posting in zip(ids, postings, strict=True):
            assert transaction_id not in {known for known, _ in self.posts}
            self.posts.append((transaction_id, posting))
            assert posting.partner_id is not None
            self.posted[posting.partner_id] -= sum(leg.amount_cents for leg in posting.legs if leg.account.code == "wallet")

    @initialize()
    def two_partners(self) -> None:
        self.book.runtime.clock.pass_time(minutes=2)
        self.run(expire_holds(self.book.runtime))  # what an example before this one has left
        for _ in range(2):
            partner = self.run(self.book.partner(f"p{next(self.number)}"))
            self.posted[partner] = 0
            self.holds[partner] = []

    def pick(self, data: st.DataObject) -> UUID:
        return data.draw(st.sampled_from(list(self.posted)))

    @rule(data=st.data(), amounts=st.lists(AMOUNTS, min_size=1, max_size=4))
    def top_up_in_a_batch(self, data: st.DataObject, amounts: list[int]) -> None:
        postings = [self.book.topup(self.pick(data), cents, key=self.new_key()) for cents in amounts]
        ids = self.run(self.book.post(*postings, postings[0]))
        assert ids[-1] == ids[0]
        self.record(ids[:-1], postings)

    @rule(data=st.data(), cents=AMOUNTS)
    def charge_without_a_hold(self, data: st.DataObject, cents: int) -> None:
        posting = self.book.charge(self.pick(data), cents, self.new_key())
        self.record(self.run(self.book.post(posting)), [posting])

    @precondition(lambda self: self.posts)
    @rule(data=st.data())
    def retry_with_the_same_body(self, data: st.DataObject) -> None:
        transaction_id, posting = data.draw(st.sampled_from(self.posts))
        assert self.run(self.book.post(replace(posting, legs=posting.legs[::-1]))) == [transaction_id]

    @precondition(lambda self: self.posts)
    @rule(data=st.data())
    def retry_with_another_body(self, data: st.DataObject) -> None:
        _, posting = data.draw(st.sampled_from(self.posts))
        innocent = self.book.topup(self.pick(data), 1, key=self.new_key())
        with pytest.raises(Conflict):
            self.run(self.book.post(innocent, replace(posting, reference="another")))

    @precondition(lambda self: self.posts)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        transaction_id, posting = data.draw(st.sampled_from(self.posts))
        undoing = self.run(self._undoing(transaction_id, self.new_key()))
        if posting.reverses is not None:
            with pytest.raises(InvalidInput):
                self.run(self.book.post(undoing))
        elif transaction_id in self.reversed:
            with pytest.raises(Conflict):
                self.run(self.book.post(undoing))
        else:
            self.record(self.run(self.book.post(undoing)), [undoing])
            self.reversed.add(transaction_id)

    async def _undoing(self, transaction_id: UUID, key: str) -> Posting:
        async with self.book.runtime.engine.connect() as connection:
            return await reversal_of(connection, transaction_id, key=key, effective_at=self.book.WHEN, why="model")

    @rule(data=st.data(), amounts=st.lists(AMOUNTS, min_size=1, max_size=4))
    def hold_in_a_batch(self, data: st.DataObject, amounts: list[int]) -> None:
        partner = self.pick(data)
        wanted = [(self.new_key(), cents) for cents in amounts]
        for (key, cents), answer in zip(wanted, self.run(self.book.hold(partner, *wanted)), strict=True):
            if cents <= self.available(partner):
                assert isinstance(answer, UUID)
                self.holds[partner].append(ModelHold(answer, key, cents))
            else:
                assert answer == Short(available=Money(self.available(partner)), needed=Money(cents))

    @rule(data=st.data(), cents=AMOUNTS, workers=st.integers(min_value=2, max_value=5))
    def hold_at_once(self, data: st.DataObject, cents: int, workers: int) -> None:
        partner = self.pick(data)
        keys = [self.new_key() for _ in range(workers)]

        async def all_at_once() -> list[UUID | Short]:
            return [answer for (answer,) in await asyncio.gather(*(self.book.hold(partner, (key, cents)) for key in keys))]

        fits = max(0, min(workers, self.available(partner) // cents))
        given = [
            ModelHold(answer, key, cents)
            for key, answer in zip(keys, self.run(all_at_once()), strict=True)
            if isinstance(answer, UUID)
        ]
        assert len(given) == fits
        self.holds[partner].extend(given)

    @precondition(lambda self: any(self.holds.values()))
    @rule(data=st.data(), part=st.integers(min_value=1, max_value=101))
    def capture(self, data: st.DataObject, part: int) -> None:
        partner, hold = data.draw(st.sampled_from([(owner, hold) for owner, holds in self.holds.items() for hold in holds]))
        charge = self.book.charge(partner, max(1, hold.cents * part // 100) if part <= 100 else hold.cents + 1, self.new_key())
        if not hold.is_open:
            with pytest.raises(Conflict):
                self.run(self.book.capture((hold.id, charge)))
            if hold.capture is not None:
                known = {posting: transaction_id for transaction_id, posting in self.posts}
                assert self.run(self.book.capture((hold.id, hold.capture))) == [known[hold.capture]]
        elif part > 100:
            with pytest.raises(InvalidInput):
                self.run(self.book.capture((hold.id, charge)))
        else:
            self.record(self.run(self.book.capture((hold.id, charge))), [charge])
            hold.capture = charge

    @precondition(lambda self: any(self.holds.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from([hold for holds in self.holds.values() for hold in holds]))
        if hold.capture is not None or hold.expired:
            with pytest.raises(Conflict):
                self.run(self.book.release([hold.id]))
            return
        assert self.run(self.book.release([hold.id])) == (0 if hold.released else 1)
        hold.released = True

    @rule(data=st.data(), cents=AMOUNTS)
    def hold_for_a_minute(self, data: st.DataObject, cents: int) -> None:
        partner, key = self.pick(data), self.new_key()
        until = self.book.runtime.clock.now() + timedelta(minutes=1)
        request = HoldRequest(AccountRef(partner, "wallet"), partner, key, Money(cents), until)
        answers = self.run(
            in_transaction(self.book.runtime.engine, lambda connection: place_holds(connection, self.book.runtime, [request]))
        )
        assert isinstance(answers[key], UUID) == (cents <= self.available(partner))
        if isinstance(answer := answers[key], UUID):
            self.holds[partner].append(ModelHold(answer, key, cents, expires_at=until))

    @precondition(lambda self: any(self.holds.values()))
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from([hold for holds in self.holds.values() for hold in holds]))
        work = in_transaction(self.book.runtime.engine, lambda connection: keep_holds(connection, self.book.runtime, [hold.id]))
        if hold.is_open:
            self.run(work)
            hold.expires_at = None
        else:
            with pytest.raises(Conflict):
                self.run(work)

    @rule(seconds=st.integers(min_value=1, max_value=90))
    def time_passes(self, seconds: int) -> None:
        self.book.runtime.clock.pass_time(seconds=seconds)
        now = self.book.runtime.clock.now()
        due = [
            h for holds in self.holds.values() for h in holds if h.is_open and h.expires_at is not None and h.expires_at <= now
        ]
        assert self.run(expire_holds(self.book.runtime)) == len(due)
        for hold in due:
            hold.expired = True

    @rule(data=st.data(), funds=st.sampled_from([100_00, 4_500_00]), held=st.lists(st.sampled_from([50_00, 60_00]), max_size=2))
    def several_at_once(self, data: st.DataObject, funds: int, held: list[int]) -> None:
        """Acts on separate connections at once: what they come to is what some order of them comes to in the model.

        On a wallet of their own: which order it was is chance, and what Hypothesis draws later must not hang on it.
        """
        partner = self.run(self.book.partner(f"p{next(self.number)}"))
        self.run(self.book.post(self.book.topup(partner, funds, self.new_key())))
        before = Wallet(funds, {}, {}, {})
        for cents in held:
            (hold,) = self.run(self.book.hold(partner, (self.new_key(), cents)))
            if isinstance(hold, UUID):
                before.open[hold] = cents
        numbers, places = st.integers(0, 2).map(str), st.integers(0, max(0, len(before.open) - 1))
        unlike = st.integers(0, 10**6).map(str)
        kinds = [
            st.tuples(st.just("post"), st.sampled_from([-70_00, 70_00, 500_00]), numbers, st.none()),
            st.tuples(st.just("hold"), st.sampled_from([1, 30_00, 400_00]), unlike, st.none()),
        ]
        if before.open:
            kinds += [
                st.tuples(st.just("capture"), st.just(1), unlike, places),
                st.tuples(st.just("release"), st.just(0), st.just(""), places),
            ]
        drawn = data.draw(st.lists(st.one_of(kinds), min_size=2, max_size=4, unique=True))
        mark, ids = self.new_key(), list(before.open)
        acts = [Act(what, cents, f"{mark}:{what}:{key}", None if at is None else ids[at]) for what, cents, key, at in drawn]

        async def all_at_once() -> list[str]:
            return await asyncio.gather(*(self._do(partner, act) for act in acts))

        outcomes = dict(zip(acts, self.run(all_at_once()), strict=True))
        wallet = self.run(self.book.wallet(partner))
        came_to = (outcomes, wallet.posted.cents, wallet.available.cents)
        assert any(came_to == before.after(order) for order in permutations(acts)), f"no order of {acts} comes to {came_to}"

    async def _do(self, partner: UUID, act: Act) -> str:
        try:
            if act.what == "post":
                cents = act.cents
                posting = self.book.topup(partner, cents, act.key) if cents > 0 else self.book.charge(partner, -cents, act.key)
                await self.book.post(posting)
            elif act.what == "hold":
                (answer,) = await self.book.hold(partner, (act.key, act.cents))
                return "short" if isinstance(answer, Short) else "done"
            elif act.what == "release":
                assert act.on is not None
                return "done" if await self.book.release([act.on]) else "again"
            else:
                assert act.on is not None
                await self.book.capture((act.on, self.book.charge(partner, act.cents, act.key)))
        except Conflict:
            return "conflict"
        return "done"

    @rule()
    def seal(self) -> None:
        self.run(seal_due(self.book.runtime, most=3))

    @invariant()
    def every_wallet_is_what_the_model_says(self) -> None:
        for partner, posted in self.posted.items():
            wallet = self.run(self.book.wallet(partner))
            assert (wallet.posted.cents, wallet.available.cents) == (posted, self.available(partner))

    @invariant()
    def the_trial_balance_is_zero(self) -> None:
        async def lines() -> int:
            async with self.book.runtime.engine.connect() as connection:
                return sum(line.debit.cents - line.credit.cents for line in await trial_balance(connection))

        assert self.run(lines()) == 0

    def teardown(self) -> None:
        assert self.run(verify_ledger_async(self.book.runtime.engine)) == []


@pytest.mark.parametrize("examples", [20, pytest.param(500, marks=[pytest.mark.campaign, pytest.mark.timeout(3_000)])])
def test_any_sequence_of_acts_ends_where_the_model_says(database_url: str, clock, sealer, book_of, examples: int) -> None:
    with asyncio.Runner() as runner:
        engine = open_async_engine(database_url)
        http = httpx.AsyncClient()
        runtime = Runtime(engine, clock, id_maker(clock), random.Random(1), sealer, http, Pace(), "")
        number = iter(range(10**9))
        try:
            run_state_machine_as_test(
                lambda: LedgerMachine(runner, book_of(runtime), number),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=25,
                    deadline=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(engine.dispose())
            runner.run(http.aclose())
