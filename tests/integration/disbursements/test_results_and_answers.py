"""What M-Pesa says, in every order: results before, after, instead of and against its answers."""

import json
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan
from vault_core.clock import NAIROBI


def result(attempt: dict[str, Any], *, code: Any = 0, receipt: str = "UKO1234567", amount: Any = 15000, **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "said by a test",
        "OriginatorConversationID": attempt["originator_conversation_id"],
        "ConversationID": attempt["conversation_id"] or "AG_test",
        "TransactionID": receipt,
    }
    if code == 0:
        body["ResultParameters"] = {
            "ResultParameter": [
                {"Key": "TransactionAmount", "Value": amount},
                {"Key": "TransactionReceipt", "Value": receipt},
                {
                    "Key": "TransactionCompletedDateTime",
                    "Value": f"{attempt['written_at'].astimezone(NAIROBI):%d.%m.%Y %H:%M:%S}",
                },
            ]
        }
    return json.dumps({"Result": body | changes}).encode()


async def sent(day: Day) -> dict[str, Any]:
    """Loan 1 on its way, its real result thrown away: what comes is what the test makes."""
    await day.fund(1000)
    await day.faults(result_lost={"rate": 1.0, "per_unit": 100})
    await day.poll()
    await day.send()
    (attempt,) = await day.attempts(1)
    return attempt


async def tell(day: Day, body: bytes, purpose: str = "b2c_result", reference: str | None = None) -> str:
    event = await day.callbacks.keep(day.partner.id, purpose, body, reference)
    await day.hear(purpose)
    (row,) = await day.rows("SELECT state, effect, cause FROM inbound_events WHERE id = :id", id=event)
    return row["effect"] or f"{row['state']}: {row['cause']}"


async def test_a_result_before_the_answer_is_not_overwritten_by_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_before_answer={"rate": 1.0})
        await day.poll()
        from vault_core.disbursements import answers

        recorded = answers.record_answers

        async def first_the_result(runtime, found) -> None:
            await day.hear("b2c_result")
            await recorded(runtime, found)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vault_core.disbursements.sending.record_answers", first_the_result)
            await day.send()
        assert await day.states() == {1: "paid"}
        (attempt,) = await day.attempts(1)
        assert (attempt["state"], attempt["answer"]) == ("paid", "accepted")
        assert attempt["conversation_id"]


async def test_a_result_twice_books_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_twice={"rate": 1.0})
        await day.poll()
        await day.send()
        assert await day.hear("b2c_result") == 2
        effects = sorted(row["effect"] for row in await day.rows("SELECT effect FROM inbound_events"))
        assert effects[0].startswith("paid ")
        assert effects[1] == "repeat"
        assert await day.balance("b2c_float") == -1_500_000
        assert await day.cases() == []


async def test_a_failure_after_the_payment_changes_nothing_and_opens_a_case(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        assert await tell(day, result(attempt)) == "paid UKO1234567"
        assert (await tell(day, result(attempt, code=2001))).startswith("contradiction")
        assert await day.states() == {1: "paid"}
        assert await day.cases() == ["contradicting_result"]


async def test_a_second_receipt_for_one_instruction_opens_a_case(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt))
        assert (await tell(day, result(attempt, receipt="UKO7654321"))).startswith("contradiction: paid again")
        assert [row["receipt"] for row in await day.rows("SELECT receipt FROM rail_lines ORDER BY 1")] == [
            "UKO1234567",
            "UKO7654321",
        ]
        assert await day.balance("b2c_float") == -1_500_000
        assert await day.cases() == ["contradicting_result"]


async def test_a_payment_after_a_failure_opens_a_case_and_nothing_more_is_paid(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        assert (await tell(day, result(attempt))).startswith("contradiction: paid after it failed")
        assert "contradicting_result" in await day.cases()
        assert await day.rows("SELECT receipt, amount_cents FROM rail_lines") == [
            {"receipt": "UKO1234567", "amount_cents": 1_500_000}
        ]
        assert await day.balance("b2c_float") == 0
        day.clock.pass_time(days=1)
        await day.review()
        assert (await day.send()).accepted == 0
        assert await day.states() == {1: "needs_review"}
        assert len(await day.attempts(1)) == 1


async def test_a_payment_after_a_failure_stops_the_try_after_the_one_under_way(open_day) -> None:
    async with open_day([loan(1)]) as day:
        first = await sent(day)
        await tell(day, result(first, code=8))
        day.clock.pass_time(days=1)
        await day.review()
        assert (await day.send()).accepted == 1
        assert (await tell(day, result(first))).startswith("contradiction: paid after it failed")
        assert await day.states() == {1: "accepted"}
        await tell(day, result((await day.attempts(1))[1], code=8))
        day.clock.pass_time(days=1)
        await day.review()
        assert (await day.send()).accepted == 0
        assert await day.states() == {1: "needs_review"}
        assert len(await day.attempts(1)) == 2


async def test_each_further_receipt_of_one_instruction_is_a_case_of_its_own(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt))
        await tell(day, result(attempt, code=8))
        for receipt in ("UKO7654321", "UKO7654322", "UKO7654322"):
            await tell(day, result(attempt, receipt=receipt))
        assert await day.cases() == ["contradicting_result"] * 3


async def test_an_amount_that_differs_is_booked_as_it_happened_and_not_posted(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        assert "instead of" in await tell(day, result(attempt, amount="14999.00"))
        assert await day.states() == {1: "needs_review"}
        assert await day.balance("b2c_float") == -1_499_900
        assert await day.rows("SELECT id FROM core_postings") == []
        assert await day.cases() == ["paid_amount_differs"]


@pytest.mark.parametrize("reference", [True, False])
async def test_a_result_is_matched_by_our_reference_when_its_ids_are_strange(open_day, reference) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        strange = result(
            attempt, OriginatorConversationID="gateway-7", ConversationID=attempt["conversation_id"] if not reference else "AG_x"
        )
        effect = await tell(day, strange, reference=attempt["id"].hex if reference else None)
        assert effect == "paid UKO1234567"


async def test_a_result_for_an_unknown_id_is_a_case(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        stranger = result(attempt, OriginatorConversationID="nobody", ConversationID="AG_nobody")
        assert await tell(day, stranger) == "matches no payout: a case"
        assert await day.states() == {1: "accepted"}
        assert await day.cases() == ["result_without_payout"]


async def test_a_result_that_came_to_another_partner_is_not_taken(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        other = await _other_partner(day)
        event = await day.callbacks.keep(other, "b2c_result", result(attempt))
        await day.hear("b2c_result")
        (row,) = await day.rows("SELECT effect FROM inbound_events WHERE id = :id", id=event)
        assert row["effect"] == "matches no payout: a case"
        assert await day.states() == {1: "accepted"}


@pytest.mark.parametrize("code", ["0", 0])
async def test_a_success_code_counts_as_text_and_as_number(open_day, code: Any) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        body = json.loads(result(attempt))
        body["Result"]["ResultCode"] = code
        assert await tell(day, json.dumps(body).encode()) == "paid UKO1234567"


async def test_a_success_without_its_parameters_is_asked_about_and_seen_by_a_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        assert await tell(day, result(attempt, ResultParameters=None)) == "no verdict (0)"
        assert await day.states() == {1: "unknown"}
        assert await day.cases() == ["result_not_understood"]
        assert (await day.attempts(1))[0]["query_at"] is not None


async def test_an_unlisted_code_is_unknown_and_alarms(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        assert await tell(day, result(attempt, code=4711)) == "no verdict (4711)"
        assert await day.states() == {1: "unknown"}
        assert await day.cases() == ["result_not_understood"]
        assert await day.held_cents() > 0


async def test_a_body_that_is_no_result_becomes_an_exception_and_holds_nothing_up(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await day.callbacks.keep(day.partner.id, "b2c_result", b"<html>")
        assert await tell(day, result(attempt)) == "paid UKO1234567"
        states = sorted(row["state"] for row in await day.rows("SELECT state FROM inbound_events"))
        assert states == ["exception", "processed"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"requestId":"1","errorCode":"500.001.1001","errorMessage":"timed out"}',
        b'{"Result":{"ResultType":1,"ResultCode":1}}',
    ],
)
async def test_a_queue_time_out_of_any_body_is_no_verdict(open_day, body: bytes) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        assert await tell(day, body, "b2c_timeout", attempt["id"].hex) == "no verdict (timeout)"
        assert await day.states() == {1: "unknown"}
        assert await day.held_cents() > 0
        assert await tell(day, result(attempt)) == "paid UKO1234567"


async def test_a_late_queue_time_out_does_not_undo_a_payment(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt))
        assert await tell(day, b"", "b2c_timeout", attempt["id"].hex) == "repeat"
        assert await day.states() == {1: "paid"}


async def test_a_definite_failure_gives_the_charges_back_and_is_retried_with_a_new_id(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code=8))
        row = await day.loan_row(1)
        assert (row["state"], row["hold_id"]) == ("failed", None)
        assert "balance would be too high" in row["reason"]
        assert await day.held_cents() == 0
        assert await day.balance("wallet") == -100_000
        assert [m["template"] for m in await day.rows("SELECT template FROM messages")] == ["disbursement_failed"]
        assert (await day.review(), (await day.send()).accepted) == (0, 0)
        day.clock.pass_time(hours=1)
        await day.faults(result_lost=None)
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        first, second = await day.attempts(1)
        assert (first["state"], second["number"]) == ("failed", 2)
        assert first["originator_conversation_id"] != second["originator_conversation_id"]
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}


async def test_failures_that_go_on_end_with_a_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await sent(day)
        for number in range(1, 4):
            attempt = (await day.attempts(1))[-1]
            assert attempt["number"] == number
            await tell(day, result(attempt, code=8))
            day.clock.pass_time(days=1)
            await day.review()
            await day.send()
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["payout_failed"]
        assert len(await day.attempts(1)) == 3


async def test_an_unknown_recipient_is_not_tried_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        attempt = await sent(day)
        await tell(day, result(attempt, code="SFC_IC0003"))
        assert await day.states() == {1: "needs_review"}
        assert await day.held_cents() == 0
        assert await day.cases() == ["payout_failed"]
        day.clock.pass_time(days=2)
        assert await day.review() == 0


async def test_credential_faults_halt_the_partner_until_it_is_resumed(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await tell(day, result(await sent(day), code=2001))
        (second,) = await day.attempts(2)
        await tell(day, result(second, code=2001))
        row = await day.loan_row(2)
        assert (row["state"], row["held_for"]) == ("held", "partner_halted")
        assert await day.cases() == ["partner_halted"]
        day.clock.pass_time(hours=1)
        assert await day.review() == 0
        from vault_core.partners.states import resume_partner

        await resume_partner(day.runtime, day.partner.id, reason="password changed", actor="ops:test")
        assert await day.cases() == []  # the next halt is told anew
        assert await day.review() == 2
        assert (await day.send()).accepted == 2
        assert len(await day.attempts(1)) == 2


async def _other_partner(day: Day):
    from sqlalchemy import text

    other = day.runtime.new_id()
    async with day.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,"
                " b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
                " SELECT :id, 'other', 'Other', mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, '1', '2',"
                " sms_url, sms_user, sms_sender, next_poll_at, created_at FROM partners"
            ),
            {"id": other},
        )
    return other
