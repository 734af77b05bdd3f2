"""A short float over the sandbox's real wire: what is held, what lets it go, who is told, and that nobody is paid twice."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import SHORT_CODE, Day
from tests.integration.disbursements.float_day import ask, buy, expected, go_on, held_for, later, send_first, short_day
from tests.integration.disbursements.test_results_and_answers import result, tell
from vault_core.disbursements.answers import Answered, record_answers
from vault_core.disbursements.batches import form_batches
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.disbursements.float_shortage import note_refusals
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.person_acts import hold_payout, release_payout
from vault_core.disbursements.results import handle_b2c_results
from vault_core.disbursements.sending import send_batch, send_ready
from vault_core.disbursements.sending_gate import SendingGate
from vault_core.inbox.reading import DELIVERY_COLUMNS, delivery_of
from vault_core.money import Money
from vault_core.partners.states import pause_partner
from vault_core.settings import FirstServed
from vault_core.wallets.charges import TariffBook, load_tariffs


def balances(stamp: str) -> bytes:
    rows = [
        {"Key": "AccountBalance", "Value": "Utility Account|KES|900000.00|900000.00|0.00|0.00"},
        {"Key": "BOCompletedTime", "Value": stamp},
    ]
    ids = {"OriginatorConversationID": "x", "ConversationID": "y"}
    result = {"ResultType": 0, "ResultCode": 0, "ResultDesc": "ok", "ResultParameters": {"ResultParameter": rows}}
    return json.dumps({"Result": ids | result}).encode()


async def texts(day: Day) -> int:
    return len(await day.rows("SELECT id FROM messages WHERE template = 'float_short'"))


async def refused(day: Day) -> list[Any]:
    return (await day.truth())["mpesa"]["short_codes"][SHORT_CODE]["b2c_failed"]


async def all_paid_once(day: Day) -> None:
    assert set((await day.states()).values()) == {"paid"}
    paid = await day.payments()
    assert len({row["phone"] for row in paid}) == len(paid) == len(await day.states())


async def test_while_m_pesa_has_told_no_balance_nothing_is_held(open_day) -> None:
    async with short_day(open_day, 30_000, 15_000, 15_000) as day:
        assert (await day.send()).accepted == 2


async def test_what_the_float_does_not_cover_is_held_with_what_is_missing_and_no_charges(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 1
        row = await day.loan_row(2)
        assert (row["state"], row["held_for"], row["tries"], row["hold_id"]) == ("held", "float_short", 0, None)
        assert "KES 5,000.00 missing" in row["reason"]
        assert SHORT_CODE in row["reason"]
        assert await refused(day) == []


async def test_what_fits_goes_although_a_larger_one_before_it_does_not(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000, 4_000) as day:
        await send_first(day)
        sent = await day.send()
        assert (sent.accepted, sent.held) == (1, 1)
        assert (await day.states())[3] == "accepted"


async def test_once_float_was_bought_all_are_paid_once_and_ops_and_the_partner_were_told_once(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000, 12_000) as day:
        await send_first(day)
        assert (await day.send()).held == 2
        assert await go_on(day) == 0
        assert (await texts(day), await day.cases()) == (0, [])  # the balance may be an old one: first M-Pesa is asked
        assert await ask(day) == 1
        assert await go_on(day) == 0
        assert (await texts(day), await day.cases()) == (1, ["float_short"])
        (case,) = await day.rows("SELECT amount_cents, evidence FROM cases")
        assert case["amount_cents"] == 1_700_000  # 22,000 for a float of 5,000
        assert (case["evidence"]["payouts_waiting"], case["evidence"]["short_code"]) == (2, SHORT_CODE)
        await buy(day, 17_000)
        assert await ask(day) == 0  # not yet
        await later(day, minutes=5)
        assert await ask(day) == 1
        assert await go_on(day) == 2
        await all_paid_once(day)
        await go_on(day)
        assert (await texts(day), await day.cases()) == (1, [])
        await later(day, minutes=30)
        assert await ask(day) == 0  # nothing waits: nothing is asked
        assert await refused(day) == []


async def test_float_bought_over_night_is_no_shortage_that_people_are_told_of(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        await buy(day, 100_000)
        await later(day, hours=12)
        assert (await day.send()).held == 1
        await watch_floats(day.runtime)
        await ask(day)
        assert await go_on(day) == 1
        await all_paid_once(day)
        await go_on(day)
        assert (await texts(day), await day.rows("SELECT kind FROM cases")) == (0, [])


async def test_no_more_is_let_go_than_a_part_of_the_float_covers(open_day) -> None:
    async with short_day(open_day, 15_500, 15_000, 10_000, 10_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 3
        await buy(day, 20_000)
        await ask(day)
        await later(day)
        assert await watch_floats(day.runtime) == 2
        assert await watch_floats(day.runtime) == 0  # what was let go and is not sent yet counts
        await day.send()
        await day.hear("b2c_result")
        assert await go_on(day) == 0
        assert sorted((await day.states()).values()) == ["held", "paid", "paid", "paid"]
        assert await refused(day) == []


async def test_a_refusal_for_float_that_we_thought_was_there_stops_all_and_goes_on_when_float_is_seen(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 10_000, 1_000) as day:
        await send_first(day)
        await buy(day, -82_000)  # somebody paid 82,000 out of it in the portal
        await send_ready(day.runtime, day.connections, [(await day.loan_row(2))["id"]])
        await day.hear("b2c_result")
        assert (await day.loan_row(2))["held_for"] == "float_short"
        assert await day.held_cents() == 0
        assert (await day.send()).held == 1  # 3, too, though it would be covered: nobody knows how much is there
        assert len(await refused(day)) == 1
        assert await go_on(day) == 0
        assert (await texts(day), await day.cases()) == (1, ["float_short"])
        await ask(day)
        assert await go_on(day) == 1
        assert await held_for(day) == {1: None, 2: "float_short", 3: None}
        await buy(day, 8_000)
        await later(day, minutes=6)
        await ask(day)
        assert await go_on(day) == 1
        await all_paid_once(day)
        attempts = await day.attempts(2)
        assert [row["state"] for row in attempts] == ["failed", "paid"]
        assert len({row["originator_conversation_id"] for row in attempts}) == 2  # a new id after a definite failure
        await go_on(day)
        assert (await texts(day), await day.cases()) == (1, [])
        assert day.ledger_findings() == []


async def test_many_refusals_make_one_case_and_one_text_and_none_is_tried_too_often(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 10_000, 10_000, 10_000) as day:
        await day.faults(insufficient_float={"units": [f"25470000000{number}" for number in (2, 3, 4)]})
        await send_first(day)
        await day.send()
        await day.hear("b2c_result")
        assert set(list((await held_for(day)).values())[1:]) == {"float_short"}
        assert await go_on(day) == 0
        assert (await texts(day), await day.cases()) == (1, ["float_short"])
        await ask(day)
        assert await go_on(day) == 3
        await all_paid_once(day)
        await go_on(day)
        assert (await texts(day), await day.cases()) == (1, [])
        assert {row["tries"] for row in await day.rows("SELECT tries FROM disbursements WHERE loan_id > 1")} == {2}


async def test_a_payout_that_is_refused_again_and_again_comes_to_a_person(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 10_000) as day:
        await day.faults(insufficient_float={"units": ["254700000002"], "per_unit": 9})
        await send_first(day)
        for _ in range(3):
            await go_on(day)
            await later(day, minutes=6)
            await ask(day)
        assert (await day.states())[2] == "needs_review"
        await go_on(day)
        assert await day.cases() == ["payout_failed"]
        assert len(await refused(day)) == 3


async def test_a_second_shortage_is_told_again(open_day) -> None:
    async with short_day(open_day, 15_000, 15_000, 10_000, 11_000) as day:
        await send_first(day)
        third = (await day.loan_row(3))["id"]
        await hold_payout(day.runtime, third, actor="ops:test", reason="its turn is later")
        for shillings in (10_000, 11_000):
            assert (await day.send()).held == 1
            await ask(day)
            assert await go_on(day) == 0
            await buy(day, shillings)
            await later(day, minutes=6)
            await ask(day)
            assert await go_on(day) == 1
            assert await day.cases() == []
            if shillings == 10_000:
                await release_payout(day.runtime, third, actor="ops:test", reason="now")
                await day.review()
        await all_paid_once(day)
        assert await texts(day) == 2
        assert len(await day.rows("SELECT id FROM cases WHERE kind = 'float_short'")) == 2


@pytest.mark.parametrize(
    ("first", "paid"), [(FirstServed.OLDEST, {2, 3}), (FirstServed.LARGEST, {4}), (FirstServed.SMALLEST, {3, 5, 2})]
)
async def test_who_goes_first_when_it_does_not_suffice_for_all_is_a_setting(open_day, first: FirstServed, paid: set[int]) -> None:
    async with short_day(open_day, 15_100, 15_000, 6_000, 2_000, 10_000, 3_000) as day:
        await send_first(day)
        assert (await day.send()).held == 4
        day.runtime = replace(day.runtime, pace=replace(day.runtime.pace, first_served=first))
        await buy(day, {FirstServed.OLDEST: 9_900, FirstServed.LARGEST: 10_100, FirstServed.SMALLEST: 11_500}[first])
        await ask(day)
        await go_on(day)
        states = await day.states()
        assert {number for number, state in states.items() if number > 1 and state == "paid"} == paid


async def test_senders_at_once_never_send_more_than_the_float_has(open_day) -> None:
    async with short_day(open_day, 56_000, 15_000, *(10_000 for _ in range(12))) as day:
        await send_first(day)
        (batch,) = await form_batches(day.runtime)
        ids = [row["id"] for row in await day.rows("SELECT id FROM disbursements")]
        await asyncio.gather(
            send_batch(day.runtime, day.connections, batch.id),
            send_batch(day.runtime, day.connections, batch.id),
            send_ready(day.runtime, day.connections, ids),
        )
        await day.hear("b2c_result")
        assert len(await day.payments()) == 5
        assert await refused(day) == []
        assert await expected(day) == Money.shillings(1_000)


async def test_an_unknown_payout_counts_as_drawn_until_its_end_is_known(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 20_000, 60_000) as day:
        await day.faults(html_answer={"units": ["254700000002"], "scope": [SHORT_CODE]})
        await send_first(day)
        await send_ready(day.runtime, day.connections, [(await day.loan_row(2))["id"]])
        assert (await day.states())[2] == "unknown"
        assert await expected(day) == Money.shillings(65_000)
        await tell(day, result((await day.attempts(2))[0], code=8))
        assert await expected(day) == Money.shillings(85_000)


async def test_a_lost_balance_answer_is_asked_for_again_and_a_late_one_counts(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 1
        await buy(day, 50_000)
        await day.faults(balance_result_lost={"times": 1})
        assert await ask(day) == 1
        assert await go_on(day) == 0
        await later(day, minutes=4)
        assert await ask(day) == 0
        await later(day, minutes=1)
        await day.faults(balance_result_late={"rate": 1.0})
        assert await ask(day) == 1
        assert await go_on(day) == 1
        await all_paid_once(day)
        outcomes = await day.rows("SELECT outcome, answered_at IS NOT NULL AS answered FROM balance_queries ORDER BY asked_at")
        assert [tuple(row.values()) for row in outcomes] == [("accepted", False), ("accepted", True)]


async def test_where_m_pesa_tells_no_balance_a_payout_goes_as_a_probe_and_its_result_lets_the_others_go(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000, 9_000, 8_000) as day:
        await day.faults(balance_failed={"rate": 1.0})
        await send_first(day)
        await buy(day, 90_000)
        await later(day, hours=1)
        await send_ready(day.runtime, day.connections, [(await day.loan_row(2))["id"]])
        assert (await day.send()).held == 2
        assert await ask(day) == 1
        (query,) = await day.rows("SELECT result_code, utility_cents FROM balance_queries")
        assert tuple(query.values()) == ("8006", None)
        await later(day, minutes=14)
        assert await go_on(day) == 0
        assert await ask(day) == 0  # a refused credential is not tried again for an hour
        assert (await texts(day), await day.cases()) == (1, ["float_short"])
        await later(day, minutes=2)
        assert await go_on(day) == 1
        assert (await day.states())[4] == "paid"  # the smallest
        assert await go_on(day) == 2
        await all_paid_once(day)
        await go_on(day)
        assert await day.cases() == []


async def test_a_probe_that_is_refused_waits_for_the_next_one(open_day) -> None:
    async with short_day(open_day, 15_000, 15_000, 10_000, 9_000) as day:
        await day.faults(balance_result_lost={"rate": 1.0})
        await send_first(day)
        assert (await day.send()).held == 2
        await later(day, minutes=16)
        assert await go_on(day) == 1
        assert len(await refused(day)) == 1
        assert await go_on(day) == 0
        assert set(list((await held_for(day)).values())[1:]) == {"float_short"}
        await later(day, minutes=16)
        assert await go_on(day) == 1
        assert len(await refused(day)) == 2


async def test_an_old_result_told_again_is_no_new_word_on_the_float(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 10_000) as day:
        await day.faults(insufficient_float={"units": ["254700000002"]})
        await send_first(day)
        await day.send()
        await day.hear("b2c_result")
        (event,) = await day.rows("SELECT id FROM inbound_events WHERE purpose = 'b2c_result' ORDER BY received_at LIMIT 1")
        async with day.runtime.engine.connect() as connection:
            query = text(f"SELECT {DELIVERY_COLUMNS} FROM inbound_events WHERE id = :id")  # noqa: S608
            first = delivery_of((await connection.execute(query, event)).one(), day.runtime.sealer)
        await later(day, minutes=1)
        await day.callbacks.keep(day.partner.id, "b2c_result", first.body, first.path_reference)
        await day.hear("b2c_result")
        assert await go_on(day) == 0


async def test_a_balance_from_the_future_and_one_for_another_question_are_not_believed(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 1
        await ask(day)
        (query,) = await day.rows("SELECT id FROM balance_queries")
        soon = f"{day.clock.now() + timedelta(hours=3, minutes=1):%Y%m%d%H%M%S}"
        assert await tell(day, balances("20991231235959"), "query_result", query["id"].hex) == "no credible utility balance (0)"
        assert await tell(day, balances(soon), "query_result", day.runtime.new_id().hex) == "answers no question of ours"
        assert await go_on(day) == 0
        assert await expected(day) == Money.shillings(5_000)
        assert await tell(day, balances(soon), "query_result", query["id"].hex) == "balance noted"
        assert await expected(day) == Money.shillings(900_000)


async def test_a_clock_that_is_behind_m_pesas_is_one_case_however_many_balances_it_costs(open_day) -> None:
    async with short_day(open_day, 500_000, 15_000, 10_000) as day:
        await day.control("settings", {"now": (day.clock.now() + timedelta(minutes=9)).isoformat()})
        await send_first(day)
        assert await day.cases() == []
        await day.control("settings", {"now": (day.clock.now() + timedelta(minutes=25, seconds=30)).isoformat()})
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        await ask(day)
        await day.hear("query_result")
        assert await day.rows("SELECT count(*) AS n FROM float_reports") == [{"n": 1}]
        (case,) = await day.rows("SELECT kind, partner_id, evidence FROM cases")
        assert (case["kind"], case["partner_id"]) == ("clock_behind", None)
        assert "a balance of 25 minutes from now" in case["evidence"]["what"]
        assert "timedatectl" in case["evidence"]["do"]


async def test_a_payout_that_was_held_as_the_shortage_ended_is_not_forgotten(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 1
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE b2c_floats SET short_since = NULL, query_at = NULL"))
        await buy(day, 50_000)
        assert await go_on(day) == 0
        assert await ask(day) == 1
        assert await go_on(day) == 1
        await all_paid_once(day)


async def test_what_was_written_and_not_sent_yet_is_held_at_the_gate_after_a_refusal(open_day) -> None:
    async with short_day(open_day, 100_000, 15_000, 10_000, 9_000) as day:
        await send_first(day)
        tariffs = await tariff_book(day)
        ids = tuple(row["id"] for row in await day.rows("SELECT id FROM disbursements WHERE state = 'ready'"))
        claimed = (await claim(day.runtime, tariffs, day.partner.id, Selection(ids=ids), 10)).claimed
        assert len(claimed) == 2
        gate = SendingGate(day.runtime, day.partner.id)
        async with day.runtime.engine.begin() as connection:
            await note_refusals(connection, day.runtime, {day.partner.id: day.clock.now()})
        shut = await gate.shut()
        assert shut is not None
        assert shut.held_for == "float_short"
        await record_answers(day.runtime, [Answered(item, shut) for item in claimed])
        assert set(list((await held_for(day)).values())[1:]) == {"float_short"}
        assert await day.held_cents() > 0  # the same instruction goes again: its charges stay set aside
        await ask(day)
        assert await go_on(day) == 2
        await all_paid_once(day)
        assert {row["number"] for row in await day.attempts(2)} == {1}


async def tariff_book(day: Day) -> TariffBook:
    async with day.runtime.engine.connect() as connection:
        return await load_tariffs(connection)


async def test_a_paused_partners_payouts_wait_and_its_balance_is_not_asked_for(open_day) -> None:
    async with short_day(open_day, 20_000, 15_000, 10_000) as day:
        await send_first(day)
        assert (await day.send()).held == 1
        await pause_partner(day.runtime, day.partner.id, reason="audit", actor="ops:test")
        await buy(day, 50_000)
        assert await ask(day) == 0
        await later(day, hours=2)
        assert await go_on(day) == 0


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 4, 0, 3, 1)])
async def test_whatever_the_order_of_results_the_same_is_expected_and_never_more_than_is_there(open_day, order) -> None:
    async with short_day(open_day, 90_000, *(10_000 + number for number in range(5))) as day:
        await day.send()
        await day.quiet()
        stored = await day.stored("b2c_result")
        really = Money((await day.truth())["mpesa"]["short_codes"][SHORT_CODE]["utility_cents"])
        for place in order:
            await handle_b2c_results(day.runtime, day.connections, [stored[place][0]])
            told = await expected(day)
            assert told is not None
            assert told <= really
        assert told == really


async def test_a_payout_whose_result_is_lost_counts_as_drawn_until_a_later_balance_is_without_it(open_day) -> None:
    async with short_day(open_day, 90_000, *(10_000 + number for number in range(5))) as day:
        await day.faults(result_lost={"units": ["254700000003"]})
        await hold_payout(day.runtime, (await day.loan_row(5))["id"], actor="ops:test", reason="its turn is later")
        await day.send()
        await day.hear("b2c_result")
        really = Money.shillings(90_000 - 10_000 - 10_001 - 10_002 - 10_003)
        told = await expected(day)
        assert told is not None
        assert told <= really
        await later(day, minutes=11)
        await day.ask()
        await day.hear("query_result")
        assert (await day.states())[3] == "paid"
        told = await expected(day)
        assert told is not None
        assert told <= really  # it told no balance: whether the last one is without it is not certain
        await release_payout(day.runtime, (await day.loan_row(5))["id"], actor="ops:test", reason="now")
        await day.review()
        await day.send()
        await day.hear("b2c_result")
        assert await expected(day) == really - Money.shillings(10_004)
