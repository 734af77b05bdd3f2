"""Payouts that a person settles by evidence: the same way as a result, above a limit by two people, once."""

from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from vault_core.clock import business_day
from vault_core.disbursements.person_acts import release_payout, retry_payout
from vault_core.disbursements.resolution_rules import SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import (
    Resolution,
    approve_resolution,
    list_proposals,
    reject_resolution,
    resolve_payout,
)
from vault_core.errors import Conflict, InsufficientFunds, InvalidInput, NotFound
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.reconciliation.three_way import read_reconciliation
from vault_core.wallets.wallet import load_wallet

EVIDENCE = "M-Pesa portal, organisation statement of today: seen there"
PAID = SeenPaid("uko1234567")
SMALL, LARGE = 1_500_000, 6_000_000  # cents, on both sides of the limit


async def empty_the_wallet(day: Day) -> None:
    async with day.runtime.engine.begin() as connection:
        there = (await load_wallet(connection, day.partner.id)).available.cents
        legs = (Leg(AccountRef(day.partner.id, "wallet"), there), Leg(AccountRef(None, "fees:system"), -there))
        spent = Posting(day.partner.id, "charges", "charges:spent", "spent", day.clock.now(), legs)
        await post(connection, day.runtime, [spent])


async def with_a_person(day: Day) -> None:
    """Loan 1 paid or not, nobody knows: its result is lost and no question is answered."""
    await sent(day)
    await day.faults(status_result_lost={"rate": 1.0, "per_unit": 100})
    for _ in range(day.runtime.pace.status_query_tries + 1):
        day.clock.pass_time(minutes=11)
        await day.ask()
    assert await day.states() == {1: "needs_review"}
    assert await day.cases() == ["payout_unresolved"]


async def resolve(day: Day, seen=PAID, who: str = "ops:asha", **more) -> Resolution:
    row = await day.loan_row(1)
    return await resolve_payout(day.runtime, row["id"], seen, evidence=EVIDENCE, actor=who, **more)


async def approve(day: Day, who: str) -> Resolution:
    return await approve_resolution(day.runtime, (await day.loan_row(1))["id"], actor=who)


async def test_a_payout_that_a_person_saw_paid_is_booked_charged_posted_and_told_like_any(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await with_a_person(day)
        held = await day.held_cents()
        made = await resolve(day)
        assert (made.state, made.verdict, made.effect) == ("applied", "paid", "paid UKO1234567")
        assert await day.states() == {1: "paid"}
        assert await day.cases() == []
        assert await day.balance("disbursed_unposted") == 1_500_000
        assert await day.held_cents() < held
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["receipt"], attempt["result_event_id"]) == ("paid", "UKO1234567", made.id)
        assert (await day.loan_row(1))["paid_at"] == attempt["written_at"]
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert len(await day.rows("SELECT 1 FROM messages WHERE template = 'loan_disbursed'")) == 1
        acts = await day.rows("SELECT act, actor FROM audit_log WHERE act LIKE 'disbursement.%' ORDER BY at, id")
        assert sorted(act["act"] for act in acts) == ["disbursement.resolution_proposed", "disbursement.resolved"]
        assert day.ledger_findings() == []


async def test_the_time_and_amount_that_a_person_saw_are_booked(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await with_a_person(day)
        seen_at = (await day.attempts(1))[0]["written_at"] + timedelta(minutes=3)
        await resolve(day, SeenPaid("UKO1234567", Money.shillings(14_999), seen_at))
        row = await day.loan_row(1)
        assert (row["state"], row["paid_at"]) == ("needs_review", seen_at)
        assert await day.cases() == ["paid_amount_differs"]
        assert await day.balance("disbursed_unposted") == 1_499_900


def reported(owner_url: str, day) -> tuple[int, int]:
    """What the day's reconciliation says of its one payout: paid by M-Pesa, and come back since."""
    engine, now = create_engine(owner_url), day.clock.now()
    with engine.connect() as connection:
        (row,) = read_reconciliation(connection, business_day(now), now=now).to_dict("records")
    engine.dispose()
    return row["rail_cents"], row["made_good_cents"]


@pytest.mark.parametrize("paid", [14_999, 15_001])
async def test_a_difference_that_was_made_good_is_booked_by_two_people_and_then_the_loan_is_posted(
    open_day, paid: int, owner_url: str
) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, amount=f"{paid}.00"))
        assert await day.states() == {1: "needs_review"}
        assert "--paid UKO1234567 --amount 15000" in (await day.loan_row(1))["reason"]
        with pytest.raises(Conflict, match="made good over the short code"):
            await resolve(day, SeenPaid("UKO1234567", Money.shillings(paid)))
        made = await resolve(day, SeenPaid("UKO1234567", Money.shillings(15_000)))
        assert (made.state, made.overturns) == ("proposed", f"paid {Money.shillings(paid)}, receipt UKO1234567")
        assert await day.balance("b2c_float") == -paid * 100
        with pytest.raises(Conflict, match="another login"):
            await approve_resolution(day.runtime, made.disbursement_id, actor=made.proposed_by)
        assert (await approve_resolution(day.runtime, made.disbursement_id, actor="ops:second")).state == "applied"
        assert (await day.states(), await day.cases()) == ({1: "paid"}, [])
        assert await day.balance("b2c_float") == -1_500_000
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert await day.balance("disbursed_unposted") == 0
        assert await day.balance("loan_book") == 1_500_000
        assert reported(owner_url, day) == (paid * 100, paid * 100 - 1_500_000)
        assert await tell(day, result(attempt, amount=f"{paid}.00")) == "repeat"
        assert day.ledger_findings() == []
        with pytest.raises(Conflict, match="is booked as paid"):
            await resolve(day, SeenPaid("UKO1234567", Money.shillings(15_000)))
        await resolve(day, SeenUnpaid())
        await approve_resolution(day.runtime, made.disbursement_id, actor="ops:second")
        assert (await day.balance("b2c_float"), await day.balance("loan_book")) == (0, 0)
        assert day.ledger_findings() == []


async def test_a_payout_that_a_person_saw_unpaid_frees_its_charges_and_waits_for_that_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await with_a_person(day)
        await resolve(day, SeenUnpaid())
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["payout_failed"]
        assert await day.held_cents() == 0
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["result_code"]) == ("failed", "NOT_PAID")
        day.clock.pass_time(days=1)
        assert await day.review() == 0
        await day.faults(result_lost=None)
        await retry_payout(day.runtime, (await day.loan_row(1))["id"], actor="ops:asha", reason="seen unpaid")
        assert (await day.send()).accepted == 1
        assert len(await day.attempts(1)) == 2


async def test_what_m_pesa_is_still_asked_about_is_not_called_unpaid_but_may_be_seen_paid(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        day.clock.pass_time(hours=1)  # no process has it to send any more
        with pytest.raises(Conflict, match="still asked"):
            await resolve(day, SeenUnpaid())
        assert (await resolve(day)).state == "applied"
        assert await day.states() == {1: "paid"}


async def test_a_result_that_contradicts_the_person_later_opens_a_case_and_books_nothing(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await with_a_person(day)
        (attempt,) = await day.attempts(1)
        await resolve(day)
        assert await tell(day, result(attempt)) == "repeat"
        assert "contradiction" in await tell(day, result(attempt, code=2001))
        assert await day.cases() == ["contradicting_result"]
        assert await day.states() == {1: "paid"}


async def test_above_the_limit_another_person_must_approve(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        made = await resolve(day)
        assert (made.state, made.second_person, made.effect) == ("proposed", True, None)
        assert await day.states() == {1: "needs_review"}
        assert await day.balance("b2c_float") == 0
        async with day.runtime.engine.connect() as connection:
            assert [one.id for one in await list_proposals(connection)] == [made.id]
        with pytest.raises(Conflict, match="another login"):
            await approve(day, "ops:asha")
        with pytest.raises(Conflict, match="waits for a second person"):
            await resolve(day)
        with pytest.raises(Conflict, match="waits for a second person"):
            await release_payout(day.runtime, made.disbursement_id, actor="ops:barasa", reason="x")
        done = await approve(day, "ops:barasa")
        assert (done.state, done.effect) == ("applied", "paid UKO1234567")
        assert await day.states() == {1: "paid"}
        with pytest.raises(NotFound):
            await approve(day, "ops:barasa")


async def test_the_table_itself_refuses_the_proposer_as_the_second_person_and_a_second_decision(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        await resolve(day)
        decide = "UPDATE disbursement_resolutions SET state = 'applied', effect = 'x', decided_at = proposed_at, decided_by = "
        with pytest.raises(DBAPIError, match="second_person"):
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text(f"{decide} 'ops:asha'"))
        with pytest.raises(DBAPIError, match="permission denied"):
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text("UPDATE disbursement_resolutions SET second_person = false"))
        await approve(day, "ops:barasa")
        with pytest.raises(DBAPIError, match="already"):
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text(f"{decide} 'ops:juma'"))
        with pytest.raises(DBAPIError, match="permission denied"):
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text("DELETE FROM disbursement_resolutions"))


async def test_a_rejected_proposal_changes_nothing_and_another_may_follow(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        await resolve(day)
        row = await day.loan_row(1)
        rejected = await reject_resolution(day.runtime, row["id"], actor="ops:barasa", reason="that receipt is another loan's")
        assert rejected.state == "rejected"
        assert await day.loan_row(1) == row
        assert (await resolve(day, SeenUnpaid())).state == "proposed"


async def test_a_result_that_comes_before_the_second_person_overtakes_the_proposal(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        await resolve(day, SeenUnpaid())
        (attempt,) = await day.attempts(1)
        await tell(day, result(attempt, amount=60000))
        assert (await approve(day, "ops:barasa")).state == "overtaken"
        assert await day.states() == {1: "paid"}
        assert day.ledger_findings() == []


async def test_a_failure_that_comes_before_the_second_person_is_not_overruled_by_the_approval(open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        await resolve(day)
        (attempt,) = await day.attempts(1)
        day.clock.pass_time(minutes=1)
        await tell(day, result(attempt, code=8))
        assert (await approve(day, "ops:barasa")).state == "overtaken"
        assert await day.states() == {1: "needs_review"}
        assert await day.balance("b2c_float") == 0
        acts = await day.rows("SELECT 1 FROM audit_log WHERE act = 'disbursement.resolution_overtaken'")
        assert len(acts) == 1


async def test_a_payment_that_was_booked_as_failed_is_booked_by_a_person_with_its_charges(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        await tell(day, result(attempt))
        assert await day.cases() == ["contradicting_result"]
        assert await day.held_cents() == 0
        with pytest.raises(InvalidInput, match="UKO1234567"):
            await resolve(day, SeenPaid("UKO7654321"))
        before = await day.balance("wallet")
        assert (await resolve(day)).state == "proposed"  # it is against what is booked: KES 15,000 or not, that takes two
        assert (await approve(day, "ops:barasa")).effect == "paid UKO1234567"
        assert await day.states() == {1: "paid"}
        assert await day.cases() == []
        assert await day.balance("wallet") > before  # a debit: its charges
        assert await day.balance("b2c_float") == -1_500_000
        assert len(await day.rows("SELECT 1 FROM rail_lines")) == 1
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert day.ledger_findings() == []


async def test_a_payment_that_was_booked_as_failed_waits_for_a_wallet_that_covers_its_charges(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        await tell(day, result(attempt))
        await empty_the_wallet(day)
        await resolve(day)
        with pytest.raises(InsufficientFunds, match="top it up"):
            await approve(day, "ops:barasa")
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["contradicting_result"]


async def test_a_late_payment_that_a_person_did_not_find_lets_the_loan_go_on(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        await tell(day, result(attempt))
        await resolve(day, SeenUnpaid())
        assert await day.cases() == []
        assert await day.rows("SELECT 1 FROM rail_lines") == []
        await retry_payout(day.runtime, (await day.loan_row(1))["id"], actor="ops:asha", reason="not there")
        assert (await day.send()).accepted == 1


async def test_two_payments_of_one_loan_are_not_booked_as_one(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        day.clock.pass_time(hours=1)
        await day.review()
        await day.send()
        await tell(day, result(attempt))  # the first one, after all, with the second under way
        with pytest.raises(Conflict, match="second payment"):
            await resolve(day, number=1)


async def test_a_receipt_of_another_payment_is_refused_whole(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await with_a_person_beside_a_paid_one(day)
        before = await day.loan_row(1)
        with pytest.raises(Conflict, match="already stands for another payment"):
            await resolve(day, SeenPaid("UKOTHER001"))
        assert await day.loan_row(1) == before
        assert await day.rows("SELECT 1 FROM disbursement_resolutions") == []


async def with_a_person_beside_a_paid_one(day: Day) -> None:
    await sent(day)
    (other,) = await day.attempts(2)
    await tell(day, result(other, receipt="UKOTHER001"))


@pytest.mark.parametrize(
    ("seen", "evidence", "complaint"),
    [
        (SeenPaid("12"), EVIDENCE, "no M-Pesa receipt"),
        (PAID, "ok", "evidence is needed"),
    ],
)
async def test_a_statement_without_substance_is_refused(open_day, seen, evidence: str, complaint: str) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        with pytest.raises(InvalidInput, match=complaint):
            await resolve_payout(day.runtime, (await day.loan_row(1))["id"], seen, evidence=evidence, actor="ops:asha")


async def test_an_instruction_that_is_being_sent_is_not_resolved(open_day) -> None:
    from vault_core.disbursements.candidates import Selection
    from vault_core.disbursements.claim import claim
    from vault_core.wallets.charges import load_tariffs

    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        async with day.runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        await claim(day.runtime, tariffs, day.partner.id, Selection(), 1)
        with pytest.raises(Conflict, match="on its way this moment"):
            await resolve(day)
        day.clock.pass_time(minutes=10)
        assert (await resolve(day)).state == "applied"
