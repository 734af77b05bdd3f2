"""What is booked and proves wrong: taken back, or booked after all, by two people, with every trace kept and nothing erased."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_resolving import EVIDENCE, PAID, approve, resolve
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from tests.integration.disbursements.test_unposted_loans import by_hand, command, handed_over
from vault_core.disbursements.payout_reference import find_payout
from vault_core.disbursements.person_acts import retry_payout
from vault_core.disbursements.resolution_rules import SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import reject_resolution
from vault_core.disbursements.resuming import resume_postings
from vault_core.disbursements.story import tell as tell_story
from vault_core.disbursements.story_rows import read_story_rows
from vault_core.disbursements.undo_watch import look_for_undone
from vault_core.disbursements.unposted import look_for_posted
from vault_core.errors import Conflict
from vault_core.postings.mifos_outages import note_away, probe_away
from vault_core.wallets.charges_proof import charges_findings

RECEIPT = "UKO1234567"
MONEY = ("b2c_float", "disbursed_unposted", "loan_book", "wallet", "fees:mpesa")


async def booked_as_paid(day: Day, *, posted: bool = True) -> dict[str, Any]:
    """Loan 1 booked by a result that was wrong, and posted; returns the instruction."""
    attempt = await sent(day)
    assert await tell(day, result(attempt)) == f"paid {RECEIPT}"
    if posted:
        await day.post()
        assert await day.states() == {1: "disbursed"}
    return attempt


async def taken_back(day: Day) -> None:
    made = await resolve(day, SeenUnpaid())
    assert (made.state, made.second_person, made.overturns) == ("proposed", True, f"paid, receipt {RECEIPT}")
    done = await approve(day, "ops:barasa")
    assert (done.state, done.effect) == ("applied", "failed with NOT_PAID (retry_later)")


async def balances(day: Day) -> dict[str, int]:
    return {code: await day.balance(code, house=code.startswith("fees")) for code in MONEY}


async def sound(day: Day) -> None:
    assert day.ledger_findings() == []
    assert await charges_findings(day.runtime.engine) == []


async def test_two_people_take_a_posted_payment_back_by_reversals_that_point_at_what_they_undo(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        before = await balances(day)
        await tell(day, result(attempt))
        await day.post()
        assert await tell(day, result(attempt, code=8)) == "contradiction: failed with code 8 after it was paid"
        await taken_back(day)
        assert await balances(day) == before
        reversed_ = await day.rows(
            "SELECT o.kind, o.reference FROM ledger_transactions r JOIN ledger_transactions o ON o.id = r.reverses ORDER BY 1"
        )
        assert [(row["kind"], row["reference"]) for row in reversed_] == [
            ("charges", RECEIPT), ("disbursement_paid", RECEIPT), ("disbursement_posted", RECEIPT)
        ]  # fmt: skip
        row = await day.loan_row(1)
        assert (row["state"], row["receipt"], row["paid_at"], row["posted_at"]) == ("needs_review", None, None, None)
        (one,) = await day.attempts(1)
        assert (one["state"], one["result_code"], one["receipt"]) == ("failed", "NOT_PAID", None)
        assert await day.cases() == ["payout_failed", "posting_to_be_undone"]  # the contradiction is settled
        assert await day.rows("SELECT 1 FROM rail_lines") == []
        assert await day.held_cents() == 0
        await sound(day)


async def test_the_limit_does_not_matter_and_nobody_takes_back_alone(open_day) -> None:
    async with open_day([loan(1)]) as day:  # KES 15,000: one person settles that alone while nothing is booked
        await booked_as_paid(day)
        before = await balances(day)
        await resolve(day, SeenUnpaid())
        with pytest.raises(Conflict, match="another login"):
            await approve(day, "ops:asha")
        assert await balances(day) == before
        await reject_resolution(day.runtime, (await day.loan_row(1))["id"], actor="ops:barasa", reason="the portal shows it")
        assert (await day.states(), await day.cases()) == ({1: "disbursed"}, [])


async def test_the_story_and_the_audit_trail_tell_who_took_what_back_and_why(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        await taken_back(day)
        async with day.runtime.engine.connect() as connection:
            story = [
                event.what for event in tell_story(await read_story_rows(connection, day.runtime, (await day.loan_row(1))["id"]))
            ]
        told = "\n".join(story)
        for words in (
            f"states: not paid, against what is booked (paid, receipt {RECEIPT}); a second person must approve. Evidence: {EVIDENCE}",
            "approved it: failed with NOT_PAID",
            "disbursement_paid: ",
            "reversal: ",
            "it counts no more, because its payment was taken back",
            "case posting_to_be_undone opened",
        ):
            assert words in told, words
        async with day.runtime.engine.connect() as connection:
            assert await find_payout(connection, RECEIPT) == (await day.loan_row(1))["id"]  # by the receipt taken back, too
        acts = await day.rows("SELECT actor, act, after FROM audit_log WHERE act LIKE 'disbursement.reso%' ORDER BY act")
        assert [(act["actor"], act["act"]) for act in acts] == [
            ("ops:asha", "disbursement.resolution_proposed"), ("ops:barasa", "disbursement.resolved")
        ]  # fmt: skip
        assert acts[1]["after"]["overturns"] == f"paid, receipt {RECEIPT}"


async def test_nothing_more_is_paid_before_mifos_x_has_the_loan_as_approved_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        await taken_back(day)
        assert await look_for_undone(day.runtime, day.connections) == 0  # it stands there still
        await retry_payout(day.runtime, (await day.loan_row(1))["id"], actor="ops:asha", reason="not paid")
        await day.send()
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", "not_approved")
        assert await day.held_cents() == 0


async def test_after_the_undoing_the_loan_is_paid_charged_posted_and_told_anew_under_keys_of_its_own(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        await taken_back(day)
        await command(day, "undodisbursal")
        day.clock.pass_time(minutes=61)
        assert await look_for_undone(day.runtime, day.connections) == 1
        assert await look_for_undone(day.runtime, day.connections) == 0
        assert await day.cases() == ["payout_failed"]
        await retry_payout(day.runtime, (await day.loan_row(1))["id"], actor="ops:asha", reason="not paid")
        assert (await day.send()).accepted == 1
        again = (await day.attempts(1))[1]
        assert await tell(day, result(again, receipt="UKO7654321")) == "paid UKO7654321"
        await day.post()
        assert (await day.states(), await day.cases()) == ({1: "disbursed"}, [])
        assert (await day.balance("b2c_float"), await day.balance("loan_book")) == (-1_500_000, 1_500_000)
        assert (await day.balance("disbursed_unposted"), await day.held_cents()) == (0, 0)
        postings = await day.rows("SELECT state, receipt, external_id FROM core_postings ORDER BY created_at")
        assert [(row["state"], row["receipt"]) for row in postings] == [("undone", RECEIPT), ("posted", "UKO7654321")]
        assert postings[0]["external_id"] != postings[1]["external_id"]
        assert len(await day.rows("SELECT 1 FROM messages WHERE template = 'loan_disbursed'")) == 2
        wallet = await day.rows("SELECT 1 FROM ledger_transactions WHERE kind = 'charges'")
        assert len(wallet) == 2  # and one reversal
        await sound(day)


async def test_in_an_outage_what_is_to_be_undone_is_not_looked_at_and_at_once_after_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        await taken_back(day)
        await command(day, "undodisbursal")
        await note_away(day.runtime, day.partner.id, "away")
        day.clock.pass_time(minutes=61)
        assert await look_for_undone(day.runtime, day.connections) == 0
        assert await probe_away(day.runtime, day.connections) == 1
        assert await look_for_undone(day.runtime, day.connections) == 1


async def test_a_payment_that_mifos_x_never_got_is_taken_back_with_nothing_to_undo_there(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day, posted=False)
        await taken_back(day)
        assert await day.cases() == ["payout_failed"]
        await day.post()  # its call is over
        assert (await resume_postings(day.runtime, "alpha", actor="ops:asha", reason="try"), await day.states()) == (
            [], {1: "needs_review"},
        )  # fmt: skip
        day.clock.pass_time(hours=2)
        assert await look_for_posted(day.runtime, day.connections) == 0
        assert (await day.truth())["mifos"]["alpha"]["loans"]["1"]["transactions"] == []
        await sound(day)


async def test_a_call_whose_answer_is_missing_may_still_be_at_work_and_is_not_believed_to_be_gone_at_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day, posted=False)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE core_postings SET state = 'unknown', tries = 1"))
        await taken_back(day)
        assert await look_for_undone(day.runtime, day.connections) == 0
        assert await day.cases() == ["payout_failed", "posting_to_be_undone"]
        day.clock.pass_time(minutes=61)
        assert await look_for_undone(day.runtime, day.connections) == 1
        assert await day.cases() == ["payout_failed"]


async def test_what_a_person_was_told_to_post_by_hand_may_stand_in_mifos_x_and_is_to_be_undone_there(
    open_day, monkeypatch
) -> None:
    async with open_day([loan(1)]) as day:
        receipt = await handed_over(day, monkeypatch)
        await by_hand(day, receipt)  # and nobody has looked since
        assert (await resolve(day, SeenUnpaid())).overturns == f"paid, receipt {receipt}"
        await approve(day, "ops:barasa")
        assert await look_for_undone(day.runtime, day.connections) == 0
        assert await day.cases() == ["payout_failed", "posting_to_be_undone"]
        await command(day, "undodisbursal")
        day.clock.pass_time(minutes=61)
        assert await look_for_undone(day.runtime, day.connections) == 1
        assert await day.cases() == ["payout_failed"]


async def test_while_a_worker_posts_it_a_payment_is_not_taken_back(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day, posted=False)
        async with day.runtime.engine.begin() as connection:
            until = {"until": day.clock.now().replace(year=2027)}
            await connection.execute(text("UPDATE core_postings SET state = 'unknown', tries = 1, lease_until = :until"), until)
        await resolve(day, SeenUnpaid())
        with pytest.raises(Conflict, match="this moment"):
            await approve(day, "ops:barasa")
        assert await day.states() == {1: "paid"}


async def test_what_was_taken_back_wrongly_is_booked_again_under_the_same_receipt(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        after_posting = await balances(day)
        await taken_back(day)
        made = await resolve(day, PAID)
        assert (made.state, made.overturns) == ("proposed", "failed with NOT_PAID")
        assert (await approve(day, "ops:barasa")).effect == f"paid {RECEIPT}"
        assert await day.states() == {1: "paid"}
        assert len(await day.rows("SELECT 1 FROM rail_lines")) == 1
        await day.post()  # Mifos X has the loan as active: it refuses, and a look finds what stands there
        day.clock.pass_time(hours=2)
        await day.post()
        await look_for_posted(day.runtime, day.connections)
        assert await day.states() == {1: "disbursed"}
        assert await balances(day) == after_posting
        await sound(day)


async def test_a_receipt_that_was_taken_back_from_one_loan_is_booked_with_its_money_for_the_loan_it_is_of(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await booked_as_paid(day, posted=False)
        after_payment = await balances(day)
        await taken_back(day)
        assert (await balances(day))["b2c_float"] == 0
        (other,) = await day.attempts(2)
        assert await tell(day, result(other, receipt=RECEIPT)) == f"paid {RECEIPT}"
        assert await balances(day) == after_payment
        await sound(day)


async def test_a_result_that_still_says_paid_after_it_was_taken_back_stops_the_loan_and_books_nothing(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await booked_as_paid(day, posted=False)
        await taken_back(day)
        assert "contradiction" in await tell(day, result(attempt))
        assert await day.cases() == ["contradicting_result", "payout_failed"]
        with pytest.raises(Conflict, match="ook it up"):
            await retry_payout(day.runtime, (await day.loan_row(1))["id"], actor="ops:asha", reason="try")
        assert await day.balance("b2c_float") == 0


async def test_a_booked_failure_that_nobody_contradicted_is_overturned_by_two_only(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=8))
        made = await resolve(day)
        assert (made.state, made.overturns) == ("proposed", "failed with 8")
        assert (await approve(day, "ops:barasa")).effect == f"paid {RECEIPT}"
        await day.post()
        assert (await day.states(), await day.cases()) == ({1: "disbursed"}, [])
        await sound(day)


async def test_another_receipt_does_not_replace_a_booked_one(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day)
        with pytest.raises(Conflict, match="first state that it was --not-paid"):
            await resolve(day, SeenPaid("UKO9999999"))
