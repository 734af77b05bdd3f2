"""M-Pesa is asked to give a payment back: once, by two people, whatever becomes of the answers."""

import asyncio
import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.integration.collections.office import ANNE, BEN
from vault_core.collections.reversal_seen import as_given_back, state_reversal
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import ZERO, Money

GONE = (ZERO, ZERO, ZERO, ZERO)


async def asked(office, cents: int = 300_00) -> str:
    receipt = await office.customer_pays(cents, "nobody")
    await office.reverse(receipt)
    await office.approve(receipt)
    return receipt


async def test_a_payment_is_given_back_by_its_own_receipt_and_the_books_hold_at_every_step(office):
    receipt = await office.customer_pays(300_00, "nobody")
    proposed = await office.reverse(receipt)
    assert (proposed.state, proposed.second_person) == ("proposed", True)  # whatever the amount
    with pytest.raises(Conflict, match="another login"):
        await office.approve(receipt, actor=ANNE)
    await office.approve(receipt)
    assert await office.standing(receipt) == ("reversing", True)
    assert await office.books() == (Money(300_00), ZERO, ZERO, ZERO)
    assert await office.send_reversals() == 1
    assert await office.books() == (Money(300_00), ZERO, ZERO, ZERO)
    [effect] = await office.hear()
    assert effect.startswith("given back by M-Pesa, receipt ")
    assert await office.reversed_by_mpesa() == [(receipt, 300_00)]
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)
    assert (await office.balance("c2b_float"), await office.open_case_kinds()) == (ZERO, [])
    assert await office.decision_state(receipt) == "done"
    [line] = await office.rows("SELECT receipt, amount_cents FROM rail_lines WHERE rail = 'mpesa_reversal'")
    [booked] = await office.rows("SELECT reference FROM ledger_transactions WHERE kind = 'collection_reversed'")
    assert (line.receipt, line.amount_cents) == (booked.reference, 300_00)
    assert await office.send_reversals() == 0


@pytest.mark.parametrize("fault", ["reversal_result_twice", "reversal_result_late", "reversal_timeout_then_result"])
async def test_however_the_result_comes_the_payment_is_given_back_and_booked_once(office, fault):
    await office.control("settings", {"late_ms": 300})
    await office.control("faults", {fault: {"rate": 1.0}})
    receipt = await asked(office)
    await office.send_reversals()
    await office.hear()
    assert await office.reversed_by_mpesa() == [(receipt, 300_00)]
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)


async def test_a_lost_result_is_asked_about_and_the_answer_books_it(office):
    await office.control("faults", {"reversal_result_lost": {"rate": 1.0}})
    receipt = await asked(office)
    await office.send_reversals()
    await office.hear()
    assert await office.standing(receipt) == ("reversing", True)
    office.runtime.clock.pass_time(minutes=6)
    assert await office.send_reversals() == 1
    await office.hear()
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)
    assert await office.reversed_by_mpesa() == [(receipt, 300_00)]


async def test_what_m_pesa_has_said_is_neither_asked_again_nor_given_to_a_person_before_it_is_read(office):
    receipt = await asked(office)
    await office.send_reversals()
    async with asyncio.timeout(20):
        while not await office.rows("SELECT 1 FROM inbound_events WHERE purpose = 'query_result'"):  # noqa: ASYNC110 - the sandbox tells it
            await asyncio.sleep(0.02)
    for _ in range(office.runtime.pace.status_query_tries + 1):
        office.runtime.clock.pass_time(hours=1)
        assert await office.send_reversals() == 0
    assert await office.open_case_kinds() == ["unmatched_payment"]
    await office.hear()
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)


async def test_a_lost_acknowledgement_is_healed_by_the_result(office):
    await office.control("settings", {"hang_ms": 10})
    await office.control("faults", {"reversal_answer_lost": {"rate": 1.0}})
    receipt = await asked(office)
    await office.send_reversals()
    [row] = await office.rows("SELECT state FROM reversal_requests")
    assert row.state == "unknown"
    await office.hear()
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)


async def test_when_answer_and_result_are_lost_it_is_sent_again_reversed_once_and_a_person_says_what_the_portal_shows(office):
    await office.control("settings", {"hang_ms": 10})
    await office.control("faults", {"reversal_answer_lost": {"rate": 1.0}, "reversal_result_lost": {"rate": 1.0}})
    receipt = await asked(office)
    await office.send_reversals()
    office.runtime.clock.pass_time(minutes=6)
    await office.send_reversals()
    assert any("reversed before" in effect for effect in await office.hear())
    assert await office.reversed_by_mpesa() == [(receipt, 300_00)]
    assert await office.open_case_kinds() == ["reversal_unknown", "unmatched_payment"]
    assert await office.books() == (Money(300_00), ZERO, ZERO, ZERO)
    seen, evidence = as_given_back("UKO1234567", office.runtime.clock.now()), "M-Pesa portal, organisation, 24 Nov"
    with pytest.raises(Conflict, match="proposed its reversal"):
        await state_reversal(office.runtime, receipt, seen, evidence=evidence, actor=ANNE)
    with pytest.raises(InvalidInput, match="not the receipt of a reversal"):
        await state_reversal(office.runtime, receipt, as_given_back(receipt, seen.at), evidence=evidence, actor=BEN)
    await state_reversal(office.runtime, receipt, seen, evidence=evidence, actor=BEN)
    assert (await office.standing(receipt), await office.books(), await office.open_case_kinds()) == (
        ("reversed", False),
        GONE,
        [],
    )


@pytest.mark.parametrize("fault", ["reversal_refused", "short"])
async def test_what_m_pesa_refuses_is_in_suspense_again_with_its_case_and_can_be_assigned(office, fault):
    receipt = await asked(office)
    if fault == "short":
        await office.control("float", {"short_code": "600100", "utility_cents": -1_000_000_00})
    else:
        await office.control("faults", {fault: {"rate": 1.0}})
    await office.send_reversals()
    await office.hear()
    assert await office.standing(receipt) == ("suspense", True)
    assert await office.open_case_kinds() == ["unmatched_payment"]
    assert (await office.books(), await office.decision_state(receipt)) == ((Money(300_00), ZERO, ZERO, ZERO), "failed")
    await office.assign(receipt, "loan:000000012")
    await office.settle()
    assert await office.posted_to("loans", 12) == [(receipt, 300_00)]


async def test_a_request_that_the_gateway_turned_away_for_now_is_sent_again(office):
    await office.control("faults", {"reversal_spike_arrest": {"rate": 1.0, "per_unit": 1}})
    receipt = await asked(office)
    await office.send_reversals()
    assert await office.reversed_by_mpesa() == []
    office.runtime.clock.pass_time(minutes=6)
    await office.send_reversals()
    await office.hear()
    assert (await office.standing(receipt), await office.books()) == (("reversed", False), GONE)


async def test_a_success_after_the_failure_is_booked_while_the_money_waits_and_a_case_once_it_is_posted(office):
    await office.control("faults", {"reversal_result_lost": {"rate": 1.0}})
    first, second = await asked(office, 300_00), await asked(office, 400_00)
    await office.send_reversals()
    requests = {row.receipt: row for row in await office.rows("SELECT * FROM reversal_requests")}

    async def tell(receipt: str, code: str, own: str) -> None:
        result = {"ResultType": 0, "ResultCode": code, "ResultDesc": "", "TransactionID": own}
        ids = {"OriginatorConversationID": requests[receipt].originator_conversation_id}
        body = json.dumps({"Result": result | ids}).encode()
        await office.callbacks.keep(office.partner.id, "query_result", body, requests[receipt].id.hex)

    for receipt in (first, second):
        await tell(receipt, "1", "UKO0000000")
    await office.hear()
    assert (await office.standing(first), await office.standing(second)) == (("suspense", True), ("suspense", True))
    await office.assign(second, "loan:000000012")
    await office.settle()
    await tell(first, "0", "UKOFIRST01")
    await tell(second, "0", "UKOSECOND1")
    await office.hear()
    assert (await office.standing(first), await office.standing(second)) == (("reversed", False), ("posted", False))
    assert await office.open_case_kinds() == ["contradicting_reversal"]
    with pytest.raises(Conflict, match="done already"):
        await state_reversal(office.runtime, first, None, evidence="M-Pesa portal, 24 Nov", actor=BEN)
    await tell(first, "2001", "UKO0000000")  # the first verdict stands
    assert any("contradicts" in effect for effect in await office.hear())
    assert await office.books() == (ZERO, ZERO, Money(-400_00), ZERO)

    await office.move(second)  # the portal shows that it was given back
    await office.settle("collection.undo")
    seen = as_given_back("UKOSECOND1", office.runtime.clock.now())
    await state_reversal(office.runtime, second, seen, evidence="M-Pesa portal, 24 Nov", actor=BEN)
    assert (await office.standing(second), await office.books()) == (("reversed", False), GONE)


async def test_a_success_after_the_failure_is_not_booked_under_what_a_person_has_proposed_since(office):
    await office.control("faults", {"reversal_result_lost": {"rate": 1.0}})
    receipt = await asked(office)
    await office.send_reversals()
    [request] = await office.rows("SELECT * FROM reversal_requests")

    async def tell(code: str) -> None:
        result = {"ResultType": 0, "ResultCode": code, "ResultDesc": "", "TransactionID": "UKOLATE001"}
        ids = {"OriginatorConversationID": request.originator_conversation_id}
        await office.callbacks.keep(
            office.partner.id, "query_result", json.dumps({"Result": result | ids}).encode(), request.id.hex
        )
        await office.hear()

    await tell("1")
    await office.reverse(receipt)
    await tell("0")
    assert (await office.standing(receipt), await office.decision_state(receipt)) == (("suspense", True), "proposed")
    assert await office.open_case_kinds() == ["contradicting_reversal", "unmatched_payment"]


async def test_only_money_in_suspense_is_given_back(office):
    receipt = await office.customer_pays(300_00, "000000012")
    with pytest.raises(Conflict, match="without --account"):
        await office.reverse(receipt)


async def test_the_database_refuses_a_reversal_that_nobody_agreed_to_or_of_another_amount(office):
    receipt = await office.customer_pays(500_00, "nobody")
    await office.reverse(receipt)
    write = (
        "INSERT INTO reversal_requests (id, partner_id, collection_id, decision_id, short_code, receipt, amount_cents, written_at, next_at)"
        " SELECT uuidv7(), c.partner_id, c.id, d.id, c.short_code, c.receipt, {cents}, c.booked_at, c.booked_at"
        " FROM collections c JOIN collection_decisions d ON d.collection_id = c.id"
    )
    with pytest.raises(DBAPIError, match="nobody agreed"):
        async with office.runtime.engine.begin() as connection:
            await connection.execute(text(write.format(cents="c.amount_cents")))
    await office.approve(receipt)
    with pytest.raises(DBAPIError, match="nobody agreed"):
        async with office.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE reversal_requests SET amount_cents = amount_cents + 1"))


async def test_the_receipt_of_another_payment_is_not_taken_for_that_of_a_reversal(office):
    await office.control("faults", {"reversal_result_lost": {"rate": 1.0}})
    receipt, other = await asked(office), await office.customer_pays(20_00, "000000012")
    async with office.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE reversal_requests SET next_at = NULL"))
    seen = as_given_back(other, office.runtime.clock.now())
    with pytest.raises(InvalidInput, match="something else on this pay bill"):
        await state_reversal(office.runtime, receipt, seen, evidence="M-Pesa portal, 24 Nov", actor=BEN)
    assert await office.standing(receipt) == ("reversing", True)
