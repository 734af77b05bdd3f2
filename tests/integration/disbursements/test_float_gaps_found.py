"""Balances that M-Pesa tells, held against what was paid, over the sandbox's real wire."""

import asyncio

from sqlalchemy import text

from tests.integration.disbursements.conftest import SHORT_CODE, Day
from tests.integration.disbursements.float_day import buy, go_on, later, send_first, short_day
from tests.integration.disbursements.test_results_and_answers import result, tell
from vault_core.cases.case_book import close_case
from vault_core.disbursements.float_audit import audit_floats
from vault_core.disbursements.results import handle_b2c_results
from vault_core.disbursements.sending import send_ready


async def gap(day: Day) -> dict:
    (case,) = await day.rows("SELECT * FROM cases WHERE kind = 'float_gap' AND closed_at IS NULL")
    return case


async def gaps(day: Day) -> list[tuple[int, bool]]:
    rows = await day.rows("SELECT amount_cents, settled FROM float_movements WHERE explained_at IS NULL ORDER BY to_at, from_at")
    return [(row["amount_cents"], row["settled"]) for row in rows]


async def test_a_day_of_payouts_with_lost_late_and_repeated_results_has_no_gap(open_day) -> None:
    async with short_day(open_day, 200_000, *(1_000 + number for number in range(20))) as day:
        await day.faults(
            result_lost={"times": 4}, result_twice={"rate": 0.3}, result_late={"rate": 0.2}, unknown_receiver={"times": 2}
        )
        await send_first(day)
        await day.send()
        for _ in range(3):
            for event, purpose in reversed(await day.stored("b2c_result")):
                assert purpose == "b2c_result"
                await handle_b2c_results(day.runtime, day.connections, [event])
                await audit_floats(day.runtime)
            await later(day, minutes=11)
            await day.ask()
            await day.hear("query_result")
            assert await audit_floats(day.runtime) == 0
        assert "float_gap" not in await day.cases()
        assert await gaps(day) == []


async def test_money_that_went_opens_one_case_with_its_figures_that_grows_with_the_next(open_day) -> None:
    async with short_day(open_day, 200_000, 10_000, 9_000, 8_000) as day:
        await send_first(day)
        await buy(day, -7_000)
        await later(day)
        second, third = [(await day.loan_row(number))["id"] for number in (2, 3)]
        await send(day, second)
        assert await audit_floats(day.runtime) == 1
        case = await gap(day)
        assert (case["subject"], case["amount_cents"]) == ("float of alpha", 700_000)
        (figures,) = case["evidence"]["gaps"]
        assert (figures["told_before"], figures["told_after"]) == ("KES 190,000.00", "KES 174,000.00")
        assert (figures["we_paid"], figures["missing"]) == ("KES 9,000.00", "KES 7,000.00")
        assert figures["charges_paid_account_moved"] == "KES -11.00"  # M-Pesa's own charges are no part of it
        assert await audit_floats(day.runtime) == 1
        await buy(day, -1_000)
        await later(day)
        await send(day, third)
        assert await audit_floats(day.runtime) == 2
        grown = await gap(day)
        assert (grown["id"], grown["amount_cents"]) == (case["id"], 800_000)
        assert grown["evidence"]["missing"] == "KES 8,000.00"


async def send(day: Day, disbursement_id) -> None:
    await send_ready(day.runtime, day.connections, [disbursement_id])
    await day.hear("b2c_result")
    await later(day)


async def test_float_that_was_bought_is_noted_and_no_case(open_day) -> None:
    async with short_day(open_day, 20_000, 10_000, 9_000) as day:
        await send_first(day)
        await buy(day, 50_000)
        await later(day)
        await day.send()
        await day.hear("b2c_result")
        assert await audit_floats(day.runtime) == 0
        assert await gaps(day) == [(5_000_000, True)]
        assert await day.cases() == []


async def test_a_lost_result_may_explain_a_fall_until_m_pesa_says_that_it_was_not_paid(open_day) -> None:
    async with short_day(open_day, 200_000, 10_000, 9_000, 8_000, 7_000) as day:
        await day.faults(html_answer={"units": ["254700000002"]})
        await send_first(day)
        await send(day, (await day.loan_row(2))["id"])
        assert (await day.states())[2] == "unknown"
        await buy(day, -9_000)  # just as much as the payout nobody knows the end of
        await send(day, (await day.loan_row(3))["id"])
        assert await audit_floats(day.runtime) == 0
        await tell(day, result((await day.attempts(2))[0], code=2040))
        await later(day, minutes=2)
        assert await audit_floats(day.runtime) == 0  # it may have been set aside when the last balance was told
        await send(day, (await day.loan_row(4))["id"])
        assert await audit_floats(day.runtime) == 1
        assert (await gap(day))["amount_cents"] == 900_000


async def test_a_gap_closes_itself_when_a_payment_is_heard_of_that_explains_it(open_day) -> None:
    async with short_day(open_day, 200_000, 10_000, 9_000, 8_000) as day:
        await send_first(day)
        await buy(day, -9_000)
        gone_at = await day.rows("SELECT max(at) AS at FROM float_reports")
        await later(day)
        await send(day, (await day.loan_row(3))["id"])
        assert await audit_floats(day.runtime) == 1
        # What an unbooked payment leaves: the rail's own evidence (unbooked_payment.py).
        async with day.runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO rail_lines (rail, short_code, receipt, partner_id, amount_cents, happened_at, evidence_event_id)"
                    " VALUES ('mpesa_b2c', :code, 'UKO9999999', :partner, 900000, :at + interval '1 second', :id)"
                ),
                {"code": SHORT_CODE, "partner": day.partner.id, "at": gone_at[0]["at"], "id": day.runtime.new_id()},
            )
        assert await audit_floats(day.runtime) == 0
        assert await day.cases() == []
        (case,) = await day.rows("SELECT resolution FROM cases WHERE kind = 'float_gap'")
        assert "explain" in case["resolution"]


async def test_what_a_person_closed_is_not_opened_again_without_a_new_gap(open_day) -> None:
    async with short_day(open_day, 200_000, 10_000, 9_000, 8_000) as day:
        await send_first(day)
        await buy(day, -7_000)
        await later(day)
        await send(day, (await day.loan_row(2))["id"])
        await audit_floats(day.runtime)
        async with day.runtime.engine.begin() as connection:
            await close_case(
                connection, day.clock, kind="float_gap", subject="float of alpha", resolution="moved to the working account"
            )
        await later(day)
        await audit_floats(day.runtime)
        assert await day.cases() == []
        await buy(day, -500)
        await send(day, (await day.loan_row(3))["id"])
        await audit_floats(day.runtime)
        assert (await gap(day))["amount_cents"] == 50_000


async def test_workers_that_audit_at_once_make_one_case(open_day) -> None:
    async with short_day(open_day, 200_000, 10_000, 9_000) as day:
        await send_first(day)
        await buy(day, -7_000)
        await later(day)
        await day.send()
        await day.hear("b2c_result")
        await asyncio.gather(*(audit_floats(day.runtime) for _ in range(6)))
        await audit_floats(day.runtime)
        assert (await gap(day))["amount_cents"] == 700_000
        assert len(await gaps(day)) == 1
        assert await go_on(day) == 0
