"""Loans that wait for their partner's wallet go on by themselves when money comes, wherever it comes from."""

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from vault_core.money import Money
from vault_core.notifications.messages import text_binding
from vault_core.wallets.adjustment_decisions import approve_adjustment
from vault_core.wallets.adjustment_proposals import propose_correction


async def waiting(open_day_of: Day, loans: int) -> None:
    await open_day_of.poll()
    assert (await open_day_of.send()).held == loans


async def test_a_topup_lets_a_waiting_loan_go_at_the_next_look_whatever_its_time(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        assert await day.review() == 0
        await day.fund(1_000)
        assert (await day.loan_row(1))["due_at"] > day.clock.now()  # its turn by the clock would be later
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}
        assert await day.rows("SELECT id FROM wallet_alerts WHERE ended_at IS NULL") == []


async def test_money_that_is_still_short_lets_nothing_go(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        needed = (await day.loan_row(1))["needed_cents"]
        await day.fund(needed // 100 - 1)
        assert await day.review() == 0
        day.clock.pass_time(minutes=2)
        assert await day.review() == 0
        assert (await day.loan_row(1))["held_for"] == "wallet_short"
        await day.fund(2, "T2")
        assert await day.review() == 1


async def test_an_approved_correction_lets_a_waiting_loan_go_and_a_proposed_one_does_not(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        proposed = await propose_correction(
            day.runtime, day.partner.id, Money.shillings(500), "T-1", reason="charged twice", actor="ops:jane"
        )
        assert await day.review() == 0
        await approve_adjustment(day.runtime, proposed.id, actor="ops:otieno")
        assert await day.review() == 1


async def test_a_shortage_is_over_when_what_waited_was_taken_back(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        assert await day.review() == 0
        assert len(await day.rows("SELECT id FROM wallet_alerts WHERE ended_at IS NULL")) == 1
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE disbursements SET held_for = 'partner_halted'"))
        await day.review()
        assert await day.rows("SELECT id FROM wallet_alerts WHERE ended_at IS NULL") == []


async def test_a_paused_partners_loans_wait_with_all_the_money_there_is(open_day) -> None:
    from vault_core.partners.states import pause_partner

    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        await pause_partner(day.runtime, day.partner.id, reason="audit", actor="ops:test")
        await day.fund(1_000)
        assert await day.review() == 0


@pytest.mark.parametrize("portal", [None, "https://portal.example.co.ke"])
async def test_the_text_about_a_short_wallet_says_what_is_missing_and_what_to_pay_in(open_day, portal: str | None) -> None:
    from dataclasses import replace

    async with open_day([loan(1), loan(2)]) as day:
        day.runtime = replace(day.runtime, portal_url=portal)
        await day.fund(50)
        await waiting(day, 2)
        needed = sum(row["needed_cents"] for row in await day.rows("SELECT needed_cents FROM disbursements"))
        (row,) = await day.rows("SELECT id, text_sealed FROM messages WHERE template = 'wallet_short'")
        told = day.runtime.sealer.open_text(row["text_sealed"], bound_to=text_binding(row["id"]))
        assert told == (
            f"Alpha Credit: loans wait. Payment Vault wallet KES 50.00, charges need {Money(needed)}: "
            f"{Money(needed - 50_00)} missing. Recommended top-up KES 500.00. "
            + (f"Top up: {portal}/wallets/alpha/top-up" if portal else "Pay in by bank transfer, quoting alpha.")
        )


async def test_a_text_about_a_shortage_that_is_over_is_not_sent_late(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await waiting(day, 1)
        await day.fund(1_000)
        assert await day.review() == 1
        async with day.runtime.engine.connect() as connection:
            query = text("SELECT state, reason FROM messages WHERE template = 'wallet_short'")
            (row,) = (await connection.execute(query)).all()
        assert row == ("withdrawn", "the shortage was over before it could be sent")
