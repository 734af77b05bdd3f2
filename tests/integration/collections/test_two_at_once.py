"""Two at once: people, feeds and workers that meet at one payment, in transactions that overlap for certain.

A third transaction holds the payment until both wait for it, so that each has looked before the other has written.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Any

import pytest
from sqlalchemy import text

from tests.conftest import StillClock
from tests.integration.collections.feeds import TELL, paid
from tests.integration.collections.office import ANNE, BEN, Office
from tests.integration.collections.test_overpayment import owed, with_one_savings_account
from vault_core.collections import assigning
from vault_core.collections.assigning import Wish, approve, assign, lapse_decisions, move, reject, reverse
from vault_core.collections.posting import post_collections
from vault_core.collections.resuming import resume_collections
from vault_core.collections.reversal_sending import advance_reversals
from vault_core.collections.undoing import undo_postings
from vault_core.errors import Conflict, NotFound
from vault_core.money import Money
from vault_core.outbox.calls import claim_calls
from vault_core.query_answers import handle_query_results

CAROL = "ops:carol"
LARGE = 60_000_00  # two people's to assign
# A confirmation that comes twice, and each other feed against another; the pairs left over are the campaign's.
SHARPEST = {("c2b", "c2b"), ("c2b", "pull"), ("stk", "statement")}
_HELD = text("SELECT id FROM collections WHERE receipt = :receipt FOR UPDATE")
_WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@asynccontextmanager
async def held(office: Office, receipt: str, waiting: int) -> AsyncIterator[None]:
    """Holds the payment; on leaving, lets go once so many wait (or, of those that need not wait, after a moment)."""
    async with office.runtime.engine.connect() as connection, connection.begin():
        await connection.execute(_HELD, {"receipt": receipt})
        yield
        async with office.runtime.engine.connect() as other:
            for _ in range(40):
                if (await other.execute(_WAITING)).scalar_one() >= waiting:
                    return
                await other.rollback()  # each look is of its own moment
                await asyncio.sleep(0.01)


async def at_once(office: Office, receipt: str, *acts: Awaitable[Any]) -> list[Any]:
    """What each did; one who came too late has been told so, and nothing else may go wrong."""
    async with held(office, receipt, len(acts)):
        running = [asyncio.ensure_future(act) for act in acts]
    done = await asyncio.gather(*running, return_exceptions=True)
    assert all(not isinstance(one, BaseException) or isinstance(one, Conflict | NotFound) for one in done), done
    return done


def done_by(results: list[Any]) -> int:
    return sum(not isinstance(one, BaseException) for one in results)


async def calls_of(office: Office, kind: str) -> Any:
    """The due calls, as a worker has claimed them."""
    ids = [
        row.id for row in await office.rows("SELECT id, kind FROM outbox WHERE state = 'pending' ORDER BY id") if row.kind == kind
    ]
    return await claim_calls(office.runtime, ids)


async def everything_settles(office: Office) -> None:
    for _ in range(4):
        await office.settle()
        await office.settle("collection.undo")
        await office.send_reversals()
        await office.hear()
        office.runtime.clock.pass_time(minutes=6)


async def stands_once(office: Office, receipt: str, cents: int) -> str:
    """The payment's state, after the proof that it is in exactly one place: an account, suspense, or its payer's hands."""
    await office.books()
    posted = [
        one
        for kind, ids in (("loans", (11, 12, 14, 21)), ("savings", (21, 22)))
        for number in ids
        for one in await office.posted_to(kind, number)
        if one[0] == receipt
    ]
    given_back = [one for one in await office.reversed_by_mpesa() if one[0] == receipt]
    row = await office.collection(receipt)
    assert (sum(each for _, each in posted), len(given_back)) == {
        "posted": (cents, 0),
        "suspense": (0, 0),
        "reversed": (0, 1),
    }[row.state]
    return str(row.state)


# ------------------------------------------------------------------ feeds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(*pair, marks=() if pair in SHARPEST else pytest.mark.campaign)
        for pair in combinations_with_replacement(TELL, 2)
    ],
)
async def test_two_feeds_that_tell_the_same_new_payments_at_once_book_them_once(office, one, other):
    now = office.runtime.clock.now()
    payments = [paid(f"RACE{number:06d}", now) for number in range(3)]
    await asyncio.gather(TELL[one](office, *payments), TELL[other](office, *reversed(payments)))
    assert len(await office.rows("SELECT 1 FROM collections")) == 3
    assert await office.balance("c2b_float") == await office.balance("collected_unposted") == Money(1_500_00)
    assert len(await office.rows("SELECT 1 FROM outbox WHERE kind = 'collection.post'")) == 3
    assert len(await office.rows("SELECT 1 FROM ledger_transactions WHERE kind = 'collection'")) == 3
    await office.books()


async def test_a_statement_and_a_pull_of_many_overlapping_payments_at_once_book_each_once(office):
    now = office.runtime.clock.now()
    payments = [paid(f"MANY{number:06d}", now) for number in range(60)]
    told = (
        TELL["statement"](office, *payments[:40]),
        TELL["pull"](office, *reversed(payments[20:])),
        TELL["c2b"](office, *payments[10:50]),
    )
    await asyncio.gather(*told)
    assert len(await office.rows("SELECT 1 FROM collections")) == 60
    assert await office.balance("c2b_float") == Money(60 * 500_00)
    await office.books()


async def test_a_reference_that_comes_while_somebody_assigns_leaves_one_posting(office):
    receipt = "LATERACE01"
    at = office.runtime.clock.now()
    await TELL["pull"](office, paid(receipt, at, reference=""))
    await office.settle()
    office.runtime.clock.pass_time(seconds=5)
    wish = Wish(receipt, "seen", "loan:000000012")
    await at_once(
        office, receipt, TELL["c2b"](office, paid(receipt, at)), assign(office.runtime, office.connections, wish, actor=ANNE)
    )
    await everything_settles(office)
    assert await stands_once(office, receipt, 500_00) == "posted"


# ------------------------------------------------------------------ people


async def in_suspense(office: Office, cents: int = 300_00) -> str:
    receipt = await office.customer_pays(cents, "nobody")
    office.runtime.clock.pass_time(seconds=1)
    return receipt


def assigned(office: Office, receipt: str, account: str, actor: str = ANNE) -> Awaitable[Any]:
    return assign(office.runtime, office.connections, Wish(receipt, "seen", account), actor=actor)


def moved(office: Office, receipt: str, account: str | None, actor: str = ANNE) -> Awaitable[Any]:
    return move(office.runtime, office.connections, Wish(receipt, "wrong account", account), actor=actor)


def wanted_back(office: Office, receipt: str, actor: str = ANNE) -> Awaitable[Any]:
    return reverse(office.runtime, Wish(receipt, "paid by mistake"), actor=actor)


def agreed(office: Office, receipt: str, actor: str = BEN) -> Awaitable[Any]:
    return approve(office.runtime, office.connections, receipt, actor=actor)


async def test_two_people_who_assign_at_once_post_it_once_and_one_is_told(office):
    receipt = await in_suspense(office)
    results = await at_once(
        office, receipt, assigned(office, receipt, "loan:000000011"), assigned(office, receipt, "loan:000000012", BEN)
    )
    await everything_settles(office)
    assert (done_by(results), await stands_once(office, receipt, 300_00)) == (1, "posted")


async def test_who_assigns_and_who_wants_it_given_back_at_once_do_not_both_get_it(office):
    receipt = await in_suspense(office)
    results = await at_once(office, receipt, assigned(office, receipt, "loan:000000011"), wanted_back(office, receipt, BEN))
    with_both = await asyncio.gather(agreed(office, receipt, CAROL), return_exceptions=True)
    await everything_settles(office)
    assert done_by(results) == 1
    assert await stands_once(office, receipt, 300_00) == ("reversed" if done_by(with_both) else "posted")


async def test_two_people_who_want_it_given_back_at_once_propose_once_and_it_is_given_back_once(office):
    receipt = await in_suspense(office)
    results = await at_once(office, receipt, wanted_back(office, receipt, ANNE), wanted_back(office, receipt, BEN))
    await agreed(office, receipt, CAROL)
    await everything_settles(office)
    assert (done_by(results), await stands_once(office, receipt, 300_00)) == (1, "reversed")
    assert len(await office.rows("SELECT 1 FROM reversal_requests")) == 1


@pytest.mark.parametrize("kind", ["assign", "reverse"])
async def test_two_who_approve_at_once_carry_it_out_once(office, kind):
    receipt = await in_suspense(office, LARGE)
    await (assigned(office, receipt, "loan:000000011") if kind == "assign" else wanted_back(office, receipt))
    results = await at_once(office, receipt, agreed(office, receipt, BEN), agreed(office, receipt, CAROL))
    await everything_settles(office)
    assert done_by(results) == 1
    assert await stands_once(office, receipt, LARGE) == ("posted" if kind == "assign" else "reversed")


async def test_who_approves_and_who_rejects_at_once_cannot_both_have_their_way(office):
    receipt = await in_suspense(office)
    await wanted_back(office, receipt)
    results = await at_once(
        office, receipt, agreed(office, receipt), reject(office.runtime, receipt, reason="the slip says otherwise", actor=CAROL)
    )
    state = await office.decision_state(receipt)
    await everything_settles(office)
    assert done_by(results) == 1
    assert await stands_once(office, receipt, 300_00) == ("reversed" if state == "approved" else "suspense")


@pytest.mark.parametrize("act", ["approve", "reject"])
async def test_a_proposal_that_lapses_while_it_is_decided_on_is_decided_on(office, monkeypatch, act):
    receipt = await in_suspense(office)
    await wanted_back(office, receipt)
    decide = assigning.decide

    async def slowly(*args: Any) -> None:  # a worker whose clock is days ahead comes before the word is written
        ahead = StillClock()
        ahead.pass_time(days=8)
        assert await lapse_decisions(replace(office.runtime, clock=ahead)) == 0
        await decide(*args)

    monkeypatch.setattr(assigning, "decide", slowly)
    word = agreed(office, receipt) if act == "approve" else reject(office.runtime, receipt, reason="no", actor=CAROL)
    decision = await word
    assert decision.state == {"approve": "approved", "reject": "rejected"}[act]


async def test_two_who_move_it_at_once_undo_it_once_and_post_it_to_one_account(office):
    receipt = await office.customer_pays(300_00, "000000011")
    office.runtime.clock.pass_time(seconds=1)
    results = await at_once(
        office, receipt, moved(office, receipt, "loan:000000012"), moved(office, receipt, "savings:000000022", BEN)
    )
    await everything_settles(office)
    assert (done_by(results), await stands_once(office, receipt, 300_00)) == (1, "posted")
    assert await office.posted_to("loans", 11) == []


# ------------------------------------------------------------------ workers


@pytest.mark.parametrize("policy", ["post_all", "to_savings", "hold"])
async def test_two_workers_that_post_the_same_payment_at_once_post_it_once_and_lose_no_share(office, policy):
    await office.setting(overpayment=policy)
    await with_one_savings_account(office)
    due = await owed(office, 41)
    await office.pay("TWICE00001", due + 200_00, "000000041")
    calls = await calls_of(office, "collection.post")
    await at_once(office, "TWICE00001", *(post_collections(office.runtime, office.connections, calls) for _ in range(2)))
    office.runtime.clock.pass_time(minutes=5)
    await everything_settles(office)
    loan, savings = await office.posted_to("loans", 41), await office.posted_to("savings", 42)
    assert (sum(each for _, each in loan), sum(each for _, each in savings)) == {
        "post_all": (due + 200_00, 0),
        "to_savings": (due, 200_00),
        "hold": (0, 0),
    }[policy]
    assert await office.standing("TWICE00001") == (("suspense", True) if policy == "hold" else ("posted", False))
    await office.books()
    assert len([one for one in await office.texts() if "TWICE00001" in one[1]]) <= 1


async def test_two_workers_that_undo_the_same_posting_at_once_undo_it_once_and_post_it_once(office):
    receipt = await office.customer_pays(300_00, "000000011")
    await office.move(receipt, "loan:000000012")
    calls = await calls_of(office, "collection.undo")
    await at_once(office, receipt, *(undo_postings(office.runtime, office.connections, calls) for _ in range(2)))
    await everything_settles(office)
    assert await stands_once(office, receipt, 300_00) == "posted"
    assert await office.posted_to("loans", 12) == [(receipt, 300_00)]
    assert len(await office.rows("SELECT 1 FROM ledger_keys WHERE key LIKE 'unposted:%'")) == 1


async def test_two_workers_that_send_reversals_and_hear_of_them_at_once_give_back_once(office):
    receipt = await in_suspense(office)
    await wanted_back(office, receipt)
    await agreed(office, receipt)
    await asyncio.gather(*(advance_reversals(office.runtime, office.connections) for _ in range(3)))
    async with asyncio.timeout(20):
        while not (heard := await office.rows("SELECT id FROM inbound_events WHERE purpose = 'query_result'")):  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.02)
    again = [
        await office.callbacks.keep(office.partner.id, row.purpose, row.body, row.path_reference) for row in await _copies(office)
    ]
    events = [[row.id for row in heard], again]
    await at_once(office, receipt, *(handle_query_results(office.runtime, office.connections, some) for some in events))
    await everything_settles(office)
    assert await stands_once(office, receipt, 300_00) == "reversed"
    assert len(await office.rows("SELECT 1 FROM ledger_transactions WHERE kind = 'collection_reversed'")) == 1


async def _copies(office: Office) -> Any:
    from vault_core.inbox.reading import read_deliveries

    ids = [row.id for row in await office.rows("SELECT id FROM inbound_events WHERE purpose = 'query_result'")]
    return await read_deliveries(office.runtime, ids)


async def test_who_resumes_and_who_assigns_at_once_do_not_post_it_twice(office):
    receipt = await in_suspense(office)
    results = await at_once(
        office,
        receipt,
        resume_collections(office.runtime, office.partner.name, actor=BEN, reason="looked"),
        assigned(office, receipt, "loan:000000011"),
    )
    await everything_settles(office)
    assert (done_by(results), await stands_once(office, receipt, 300_00)) == (2, "posted")
