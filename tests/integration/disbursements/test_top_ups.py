"""Top-ups: a part of the principal pays off an older loan of the client, and Mifos X reckons it with the disbursal only."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_causes_gone import stays_held
from tests.integration.disbursements.test_unposted_loans import by_hand
from vault_core.clients.mifos import CoreWrite
from vault_core.clock import business_day
from vault_core.disbursements.top_up_watch import DIFFERS, compare_payoffs
from vault_core.disbursements.unposted import look_for_posted
from vault_core.money import Money
from vault_core.outcome import Accepted
from vault_core.reconciliation.core_reading import read_core_day

OLDER = loan(7, 1_000_000, client=1, status=300, months=1)  # owes 10,250
TOP_UP = loan(1, 2_000_000, fee_cents=75_000, topup_of=7)


async def repay_older(day: Day, shillings: int) -> None:
    mifos = await day.connections.mifos(day.partner.id)
    of = CoreWrite(Money.shillings(shillings), business_day(day.clock.now()), None, f"CASH{shillings}", None, None, None)
    assert isinstance(await mifos.repay(7, of), Accepted)


async def paid(day: Day) -> None:
    await day.fund(1000)
    await day.poll()
    assert (await day.send()).accepted == 1, (await day.loan_row(1))["reason"]
    await day.hear("b2c_result")


async def of_mifos(day: Day, number: int) -> Sequence[dict[str, Any]]:
    return (await day.truth())["mifos"]["alpha"]["loans"][str(number)]["transactions"]


async def the_case(day: Day) -> dict[str, Any]:
    (case,) = await day.rows("SELECT kind, amount_cents, evidence FROM cases WHERE closed_at IS NULL")
    assert case["kind"] == DIFFERS
    return case


@pytest.mark.parametrize("nets_top_ups", [True, False])
async def test_a_top_up_pays_the_difference_and_posts_the_whole_principal(open_day, nets_top_ups) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=nets_top_ups) as day:
        await paid(day)
        await day.post()
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        (payment,) = await day.payments()
        posted = [(each["amount_cents"], each["receipt"]) for each in await of_mifos(day, 1) if each["kind"] == "disbursement"]
        assert payment["amount_cents"] == 2_000_000 - 75_000 - 1_025_000
        assert posted == [(1_025_000, None), (975_000, payment["receipt"])]
        # What is lent for the older loan comes back to the book with its payment.
        assert (await day.balance("loan_book"), await day.balance("loan_charges")) == (975_000, -75_000)
        assert day.ledger_findings() == []
        assert await compare_payoffs(day.runtime, day.connections) == 1
        assert (await day.loan_row(1))["payoff_taken_cents"] == 1_025_000
        assert await compare_payoffs(day.runtime, day.connections) == 0
        assert await day.cases() == []


async def test_a_payment_to_the_older_loan_before_the_payout_is_seen_right_before_it(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await day.fund(1000)
        await day.poll()
        await repay_older(day, 250)
        assert (await day.send()).not_sent == 1  # another amount than was to be paid
        assert await day.payments() == []
        await day.review()
        assert (await day.send()).accepted == 1
        (payment,) = await day.payments()
        assert payment["amount_cents"] == 925_000
        await day.hear("b2c_result")
        await day.post()
        await compare_payoffs(day.runtime, day.connections)
        assert (await day.cases(), await day.states()) == ([], {1: "disbursed"})


async def test_a_payment_to_the_older_loan_between_payout_and_posting_is_a_case_with_what_the_client_lacks(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await paid(day)
        await repay_older(day, 250)
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert await compare_payoffs(day.runtime, day.connections) == 1
        case = await the_case(day)
        assert case["amount_cents"] == 25_000
        assert "paid KES 250.00 too little" in case["evidence"]["what"]
        assert (case["evidence"]["kept_back"], case["evidence"]["taken"]) == ("KES 10,250.00", "KES 10,000.00")


async def test_more_taken_for_the_older_loan_than_was_kept_back_is_a_case_with_what_was_paid_too_much(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await day.fund(1000)
        await repay_older(day, 250)
        await day.poll()
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        (paid_off,) = [each for each in await of_mifos(day, 7) if each["receipt"] == "CASH250"]
        undo = {"transactionDate": business_day(day.clock.now()).isoformat(), "transactionAmount": "0"}
        await mifos_command(day, f"/loans/7/transactions/{paid_off['id']}?command=undo", undo)
        await day.post()
        await compare_payoffs(day.runtime, day.connections)
        case = await the_case(day)
        assert case["amount_cents"] == 25_000
        assert "paid KES 250.00 too much" in case["evidence"]["what"]


async def mifos_command(day: Day, path: str, body: dict[str, Any]) -> None:
    answer = await day.runtime.http.post(
        f"{day.partner.mifos_url}{path}",
        json={"locale": "en", "dateFormat": "yyyy-MM-dd", **body},
        auth=("mifos", "password"),
        headers={"Fineract-Platform-TenantId": "default"},
    )
    assert answer.status_code == 200, answer.text


async def test_a_top_up_whose_older_loan_is_paid_off_by_now_is_never_paid_and_says_what_to_do(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await day.fund(1000)
        await repay_older(day, 10_250)
        await day.poll()
        await stays_held(day, "top_up", "make it an ordinary loan")


async def test_a_top_up_that_would_leave_cents_says_which_charge_makes_them_whole(open_day) -> None:
    async with open_day([dict(OLDER), loan(1, 2_000_040, topup_of=7)], [client(1)], nets_top_ups=False) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "cents", "add a charge of KES 0.40")


async def test_a_top_up_whose_older_loan_was_closed_after_the_payout_is_with_a_person(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await paid(day)
        await repay_older(day, 10_250)
        await day.post()
        row = await day.loan_row(1)
        assert (row["state"], await day.cases()) == ("needs_review", ["disbursement_unposted"])
        assert "to.be.closed.with.topup.is.not.active" in row["reason"]


async def test_a_top_up_whose_answer_was_lost_is_found_by_its_receipt_and_not_posted_twice(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await paid(day)
        await day.faults(mifos_500_after_posting={"units": ["loan:1"]})
        await day.post()
        assert await day.states() == {1: "posting"}
        day.clock.pass_time(minutes=1)
        await day.post()
        assert await day.states() == {1: "disbursed"}, (await day.loan_row(1))["reason"]
        assert [each["kind"] for each in await of_mifos(day, 1)].count("disbursement") == 2
        (posting,) = await day.rows("SELECT last_answer, top_up FROM core_postings")
        assert posting == {"last_answer": "found by reading back", "top_up": True}


async def test_a_top_up_that_a_person_disbursed_with_the_receipt_is_found(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await paid(day)
        await day.faults(mifos_403_client_not_active={"units": ["loan:1"]})
        await day.post()
        assert await day.cases() == ["disbursement_unposted"]
        await by_hand(day, (await day.payments())[0]["receipt"], "20000")
        day.clock.pass_time(hours=2)
        assert await look_for_posted(day.runtime, day.connections) == 1
        assert (await day.states(), await day.cases()) == ({1: "disbursed"}, [])


async def test_a_reading_that_a_day_of_interest_has_passed_since_pays_nothing(open_day, monkeypatch) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await day.fund(1000)
        await day.poll()
        mifos = await day.connections.mifos(day.partner.id)
        once = mifos.loan

        async def at_midnight(loan_id: int) -> Any:
            found = await once(loan_id)
            day.clock.pass_time(days=1)
            return found

        monkeypatch.setattr(mifos, "loan", at_midnight)
        assert (await day.send()).accepted == 0
        assert await day.payments() == []


async def test_a_top_up_reconciles_with_what_mifos_x_has_under_its_receipt(open_day) -> None:
    async with open_day([dict(OLDER), dict(TOP_UP)], [client(1)], nets_top_ups=False) as day:
        await paid(day)
        await day.post()
        await read_core_day(day.runtime, day.connections, business_day(day.clock.now()))
        (row,) = await day.rows(
            "SELECT c.amount_cents AS core, (SELECT sum(e.amount_cents)::bigint FROM ledger_entries e JOIN ledger_accounts a"
            " ON a.id = e.account_id WHERE a.code = 'loan_book') AS due FROM core_lines c WHERE c.receipt IS NOT NULL"
        )
        assert row["core"] == row["due"] == 975_000


async def test_the_second_top_up_of_an_older_loan_waits_for_the_posting_of_the_first(open_day) -> None:
    people = [client(1), client(2, "0700000002")]
    loans = [
        dict(OLDER),
        dict(TOP_UP),
        loan(2, 3_000_000, client=2, topup_of=7),
    ]  # another number: the payee alone does not hold it
    async with open_day(loans, people, nets_top_ups=False) as day:
        await day.fund(1000)
        await day.poll()
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        day.clock.pass_time(minutes=6)
        assert (await day.review(), await day.states()) == (0, {1: "paid", 2: "held"})
        row = await day.loan_row(2)
        assert row["held_for"] == "unresolved_payout"
        assert "loan 000000001 tops up the same older loan and is not posted" in row["reason"]
        await day.post()
        assert await day.states() == {1: "disbursed", 2: "held"}
        day.clock.pass_time(minutes=6)
        await day.review()
        assert (await day.send()).accepted == 0  # read again: the older loan is paid off by now
        day.clock.pass_time(minutes=6)
        await day.review()
        assert "make it an ordinary loan" in (await day.loan_row(2))["reason"]
        assert (len(await day.payments()), await day.cases()) == (1, [])


async def test_the_second_top_up_goes_when_the_first_is_refused(open_day) -> None:
    people = [client(1), client(2, "0700000002")]
    async with open_day([dict(OLDER), dict(TOP_UP), loan(2, 3_000_000, client=2, topup_of=7)], people, nets_top_ups=False) as day:
        await day.fund(1000)
        await day.faults(unknown_receiver={"units": ["254700000001"]})
        await day.poll()
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        assert await day.states() == {1: "needs_review", 2: "held"}
        day.clock.pass_time(minutes=6)
        await day.review()
        assert (await day.send()).accepted == 1
        await day.hear("b2c_result")
        await day.post()
        assert (await day.states())[2] == "disbursed", (await day.loan_row(2))["reason"]
        assert [each["amount_cents"] for each in await day.payments()] == [3_000_000 - 1_025_000]
