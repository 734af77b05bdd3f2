"""The same money, told by every feed in every order: booked once, and what is known in the end is the same."""

import random
from itertools import permutations

import pytest

from tests.integration.collections.feeds import PHONE, TELL, paid
from vault_core import fault_points
from vault_core.cases.case_book import close_cases
from vault_core.collections.payment_seals import opened_facts
from vault_core.collections.story import tell
from vault_core.collections.story_rows import read_story_rows
from vault_core.money import Money


async def facts(umoja, receipt):
    row = await umoja.collection(receipt)
    known = (row.bill_reference_sealed, row.payer_phone_sealed, row.payer_name_sealed, row.org_balance_cents)
    return row, opened_facts(umoja.runtime.sealer, row.id, *known)


async def feeds_of(umoja, collection_id):
    """Each feed that told of it, with its evidence, as the story of the payment has it; the first one first."""
    async with umoja.runtime.engine.connect() as connection:
        rows = await read_story_rows(connection, umoja.runtime, collection_id)
    return [(one["source"], one["event_id"]) for one in (rows.found, *rows.tellings)]


async def test_any_order_and_repetition_of_the_feeds_books_once_with_the_same_end(umoja):
    chance, orders = random.Random(6), list(permutations(TELL))
    told = {}
    for number, order in enumerate(orders):
        one = paid(f"PERM{number:06d}", umoja.runtime.clock.now())
        repeats = chance.sample(order, k=2)
        told[one.receipt] = (one, [*order, *repeats] if number % 2 else [*repeats[:1], *order])
    for place in range(6):
        for feed, tell_by in TELL.items():
            batch = [one for one, order in told.values() if place < len(order) and order[place] == feed]
            if batch:
                await tell_by(umoja, *batch)

    ends = set()
    for receipt, (_, order) in told.items():
        row, known = await facts(umoja, receipt)
        ends.add((row.amount_cents, row.happened_at, row.payer_phone_hash, row.bill_reference_hash, row.state, known))
        assert row.source == order[0]
        assert {feed for feed, _ in await feeds_of(umoja, row.id)} == set(TELL)
    [(cents, _, _, _, state, known)] = ends
    assert (cents, state) == (500_00, "matching")
    assert (known.payer_phone, known.payer_name) == (PHONE, "JANE WANJIKU")
    assert (known.bill_reference, known.org_balance) == ("000000011", Money(9_000_00))
    assert await umoja.balance("collected_unposted") == Money(500_00) * len(orders)
    for table in ("collections", "rail_lines", "outbox"):
        assert len(await umoja.rows(f"SELECT 1 FROM {table}")) == len(orders)  # noqa: S608 - named above
    assert await umoja.cases() == []


async def test_a_reference_that_the_first_telling_lacked_is_filled_in_before_the_account_is_looked_for(umoja):
    now = umoja.runtime.clock.now()
    await TELL["stk"](umoja, paid("FILL000001", now, reference=""))
    await TELL["c2b"](umoja, paid("FILL000001", now))
    await umoja.work()

    row, known = await facts(umoja, "FILL000001")
    assert (row.state, row.source, known.bill_reference) == ("posted", "stk", "000000011")
    assert await umoja.posted_to("loans", 11) == [("FILL000001", 500_00)]


async def test_a_telling_that_contradicts_the_first_opens_a_case_and_changes_nothing(umoja):
    now = umoja.runtime.clock.now()
    others = [({"cents": 400_00}, "amount"), ({"reference": "000000012"}, "bill reference")]
    told = [
        (f"CONFLICT{n:02d}", feed, *other)
        for n, (feed, other) in enumerate((f, o) for f in ("stk", "pull", "statement") for o in others)
    ]
    await TELL["c2b"](umoja, *(paid(receipt, now) for receipt, *_ in told))
    for receipt, feed, change, _ in told:
        await TELL[feed](umoja, paid(receipt, now, **change))

    cases = {case.subject.split()[1]: case for case in await umoja.cases()}
    for receipt, feed, _, differs in told:
        row, known = await facts(umoja, receipt)
        assert (row.amount_cents, known.bill_reference) == (500_00, "000000011")
        case = cases.pop(receipt)
        assert (case.kind, case.evidence["differs_in"], case.evidence["source"]) == ("receipt_conflict", [differs], feed)
        assert "000000012" not in str(case.evidence)
    assert cases == {}
    assert await umoja.balance("c2b_float") == Money(500_00) * len(told)


async def test_a_contradiction_that_a_person_has_looked_into_is_no_case_again_when_the_next_pull_repeats_it(umoja):
    now = umoja.runtime.clock.now()
    await TELL["c2b"](umoja, paid("REPEATED01", now))
    await TELL["pull"](umoja, paid("REPEATED01", now, reference="000000012"))
    async with umoja.runtime.engine.begin() as connection:
        subject = ("receipt_conflict", "600100 REPEATED01")
        assert await close_cases(connection, umoja.runtime.clock, [subject], resolution="the pull has it wrong") == 1
    umoja.runtime.clock.pass_time(minutes=15)
    await TELL["pull"](umoja, paid("REPEATED01", now, reference="000000012"))
    assert await umoja.cases() == []
    await TELL["pull"](umoja, paid("REPEATED01", now, 400_00, reference="000000012"))
    [case] = await umoja.cases()
    assert (case.kind, case.evidence["differs_in"]) == ("receipt_conflict", ["amount", "bill reference"])


async def test_the_evidence_of_each_telling_is_kept_and_a_pull_that_reads_again_is_kept_once(umoja):
    one = paid("EVIDENCE01", umoja.runtime.clock.now())
    for feed in ("c2b", "c2b", "pull", "pull", "statement"):
        await TELL[feed](umoja, one)
        umoja.runtime.clock.pass_time(seconds=1)

    row = await umoja.collection(one.receipt)
    told = await feeds_of(umoja, row.id)
    assert [feed for feed, _ in told] == ["c2b", "c2b", "pull", "statement"]
    kept = await umoja.rows("SELECT id FROM inbound_events UNION SELECT id FROM pull_answers UNION SELECT id FROM statement_rows")
    stored = {one.id for one in kept}
    async with umoja.runtime.engine.connect() as connection:
        story = [event.what for event in tell(await read_story_rows(connection, umoja.runtime, row.id))]
    assert {"booked it, told by a confirmation", "told of it by a pull too", "told of it by an imported statement too"} <= set(
        story
    )
    assert {event_id for _, event_id in told} <= stored


async def test_what_was_not_confirmed_in_time_is_marked_as_found_late(umoja):
    now, after = umoja.runtime.clock.now(), umoja.runtime.pace.confirmation_late_after
    umoja.runtime.clock.pass_time(seconds=after - 60)
    for feed in TELL:
        await TELL[feed](umoja, paid(f"NEW{feed.upper():_<9}".replace("_", "0"), now))
    umoja.runtime.clock.pass_time(seconds=120)
    for feed in TELL:
        await TELL[feed](umoja, paid(f"OLD{feed.upper():_<9}".replace("_", "0"), now))

    late = {row.receipt[:6] for row in await umoja.rows("SELECT receipt FROM collections WHERE found_late")}
    assert late == {"OLDPUL", "OLDSTA"}


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("feed", TELL)
async def test_cut_off_before_or_after_any_commit_the_telling_is_simply_told_again(umoja, monkeypatch, feed):
    passed = []
    monkeypatch.setattr(fault_points, "_reached", passed.append)
    await TELL[feed](umoja, paid("CUT0000000", umoja.runtime.clock.now()))
    commits = [place for place, point in enumerate(passed) if "commit" in point]

    for number, place in enumerate(commits, start=1):
        one, reached = paid(f"CUT000000{number}", umoja.runtime.clock.now()), iter(range(len(passed) + 1))

        def cut(_point, place=place, reached=reached):
            if next(reached) == place:
                raise Cut

        monkeypatch.setattr(fault_points, "_reached", cut)
        with pytest.raises(Cut):
            await TELL[feed](umoja, one)
        monkeypatch.setattr(fault_points, "_reached", None)
        booked = len(await umoja.rows(f"SELECT 1 FROM collections WHERE receipt = '{one.receipt}'"))  # noqa: S608
        whole = await umoja.rows(f"SELECT 1 FROM rail_lines WHERE receipt = '{one.receipt}'")  # noqa: S608
        assert len(whole) == booked
        await TELL[feed](umoja, one)

    assert len(commits) >= 2
    assert await umoja.balance("c2b_float") == Money(500_00) * (len(commits) + 1)
    assert len(await umoja.rows("SELECT 1 FROM outbox")) == len(await umoja.rows("SELECT 1 FROM collections")) == len(commits) + 1
