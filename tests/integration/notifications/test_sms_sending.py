import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from vault_core.cases.case_book import list_open_cases
from vault_core.clients.sms_gateway import SmsAck
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.errors import Unreachable
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import Money
from vault_core.notifications.attempts import write_attempts
from vault_core.notifications.messages import NewMessage, write_messages
from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import claim_calls
from vault_core.outcome import Accepted, Refusal, Refused, Unknown
from vault_core.partners.fee_setting import set_fee
from vault_core.partners.system_fees import FeeTerms

PHONE = "0712345678"
NORMAL = "254712345678"


def receipt(partner, key="receipt:A1", phone=PHONE, account="000000012"):
    return NewMessage(
        partner=partner,
        business_key=key,
        template="payment_received",
        phone=phone,
        values={"amount": "KES 10.00", "kind": "loan", "account": account, "receipt": "A1", "balance": "KES 5.00"},
    )


async def write(runtime, *messages):
    return await in_transaction(runtime.engine, lambda connection: write_messages(connection, runtime, messages))


async def claim(runtime):
    async with runtime.engine.connect() as connection:
        ids = (await connection.execute(text("SELECT id FROM outbox WHERE kind = 'message.send'"))).scalars().all()
    return await claim_calls(runtime, ids)


async def run(runtime, outside):
    await send_messages(runtime, outside, await claim(runtime))


async def rows(runtime, sql):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text(sql))).all()


async def wallet(runtime, partner):
    async with runtime.engine.connect() as connection:
        return (await balance(connection, AccountRef(partner.id, "wallet"))).posted


async def cases(runtime):
    async with runtime.engine.connect() as connection:
        return await list_open_cases(connection)


async def test_a_message_is_sealed_at_rest_and_its_text_is_what_is_sent(runtime, lender, outside):
    await write(runtime, receipt(lender))
    stored = await rows(runtime, "SELECT phone_sealed, text_sealed, parts, price_cents, state FROM messages")
    assert NORMAL.encode() not in bytes(stored[0].phone_sealed)
    assert b"Received" not in bytes(stored[0].text_sealed)
    assert (stored[0].parts, stored[0].price_cents, stored[0].state) == (1, 80, "queued")

    await run(runtime, outside)

    assert [(one.phone, one.sender) for one in outside.gateway.sent] == [(NORMAL, "LENDER")]
    assert outside.gateway.sent[0].text.startswith("Received KES 10.00 for loan 000000012.")


async def test_a_business_key_is_told_once_however_often_it_is_written(runtime, lender, outside):
    first = await write(runtime, receipt(lender), receipt(lender))
    again = await write(runtime, receipt(lender))
    await run(runtime, outside)

    assert (len(first), again) == (1, [])
    assert len(outside.gateway.sent) == 1
    assert [row.n for row in await rows(runtime, "SELECT count(*) AS n FROM outbox")] == [1]


async def test_an_accepted_message_is_charged_once_with_its_charge_line(runtime, lender, outside):
    await write(runtime, receipt(lender))
    await run(runtime, outside)
    runtime.clock.pass_time(hours=1)
    await run(runtime, outside)

    assert await wallet(runtime, lender) == Money(-80)
    lines = await rows(runtime, "SELECT line, amount_cents, transaction_id, charged_at FROM charge_lines")
    assert [(row.line, row.amount_cents) for row in lines] == [("sms", 80)]
    assert lines[0].transaction_id is not None
    assert [row.state for row in await rows(runtime, "SELECT state FROM outbox")] == ["done"]
    assert [row.state for row in await rows(runtime, "SELECT state FROM messages")] == ["accepted"]
    assert await cases(runtime) == []


async def test_a_refused_try_is_made_again_under_the_same_sms_id_and_only_acceptance_is_charged(runtime, lender, outside):
    outside.gateway.answer(NORMAL, Refused("1004", "insufficient balance", Refusal.RETRY_LATER), Accepted(SmsAck(None)))
    await write(runtime, receipt(lender))
    await run(runtime, outside)
    assert await wallet(runtime, lender) == Money(0)
    await run(runtime, outside)
    assert len(outside.gateway.sent) == 1, "not before the wait is over"

    runtime.clock.pass_time(hours=1)
    await run(runtime, outside)

    assert len({one.reference for one in outside.gateway.sent}) == 1
    assert [row.state for row in await rows(runtime, "SELECT state FROM message_attempts ORDER BY number")] == [
        "refused",
        "accepted",
    ]
    assert await wallet(runtime, lender) == Money(-80)


async def test_a_message_that_is_itself_at_fault_is_refused_at_once_with_a_case_and_no_charge(runtime, lender, outside):
    outside.gateway.answer(NORMAL, Refused("403", "bad number", Refusal.TERMINAL))
    await write(runtime, receipt(lender))
    await run(runtime, outside)

    assert [(row.state, row.reason) for row in await rows(runtime, "SELECT state, reason FROM messages")] == [
        ("refused", "403: bad number")
    ]
    assert [(one.kind, one.amount) for one in await cases(runtime)] == [("sms_refused", Money(80))]
    assert await wallet(runtime, lender) == Money(0)


async def test_after_a_time_out_the_message_is_unknown_not_resent_and_not_charged(runtime, lender, outside):
    outside.gateway.answer(NORMAL, Unknown("no answer after 30 s"))
    await write(runtime, receipt(lender))
    await run(runtime, outside)
    runtime.clock.pass_time(days=1)
    await run(runtime, outside)

    assert len(outside.gateway.sent) == 1
    assert [row.state for row in await rows(runtime, "SELECT state FROM messages")] == ["unknown"]
    assert [(one.kind, one.amount) for one in await cases(runtime)] == [("sms_unknown", Money(80))]
    assert await wallet(runtime, lender) == Money(0)


async def test_a_gateway_that_raises_after_the_call_began_leaves_the_message_unknown(runtime, lender, outside):
    outside.gateway.answer(NORMAL, Unreachable("connection reset"))
    await write(runtime, receipt(lender))
    await run(runtime, outside)

    assert [row.state for row in await rows(runtime, "SELECT state FROM messages")] == ["unknown"]


async def test_a_message_whose_process_died_between_the_call_and_its_answer_is_unknown(runtime, lender, outside):
    await write(runtime, receipt(lender))
    calls = await claim(runtime)
    await in_transaction(runtime.engine, lambda connection: write_attempts(connection, runtime, calls))

    runtime.clock.pass_time(minutes=10)
    await run(runtime, outside)

    assert outside.gateway.sent == []
    assert [row.state for row in await rows(runtime, "SELECT state FROM message_attempts")] == ["unknown"]
    assert [one.kind for one in await cases(runtime)] == ["sms_unknown"]


async def test_an_answer_that_comes_after_the_message_was_taken_for_unknown_resolves_it(runtime, lender, outside):
    await write(runtime, receipt(lender))
    arrived, answer_now = asyncio.Event(), asyncio.Event()
    send = outside.gateway.send

    async def slow(message):
        arrived.set()
        await answer_now.wait()
        return await send(message)

    outside.gateway.send = slow
    slow_worker = asyncio.create_task(run(runtime, outside))
    await arrived.wait()
    runtime.clock.pass_time(minutes=10)
    await run(runtime, outside)
    assert [one.kind for one in await cases(runtime)] == ["sms_unknown"]

    answer_now.set()
    await slow_worker

    assert len(outside.gateway.sent) == 1
    assert [row.state for row in await rows(runtime, "SELECT state FROM messages")] == ["accepted"]
    assert await cases(runtime) == []
    assert await wallet(runtime, lender) == Money(-80)


async def test_a_refusal_that_never_ends_is_handed_to_a_person_after_the_last_try(runtime, lender, outside):
    outside.gateway.answer(NORMAL, *[Refused("1006", "INVALID CREDENTIALS", Refusal.HALT)] * 12)
    await write(runtime, receipt(lender))
    for _ in range(14):
        await run(runtime, outside)
        runtime.clock.pass_time(hours=2)

    assert len(outside.gateway.sent) == runtime.pace.outbox_max_tries
    assert sorted(one.kind for one in await cases(runtime)) == ["sms_gateway_refuses", "sms_refused"]
    assert [row.state for row in await rows(runtime, "SELECT state FROM messages")] == ["refused"]
    assert [row.state for row in await rows(runtime, "SELECT state FROM outbox")] == ["given_up"]


async def test_one_bad_phone_in_a_batch_opens_a_case_and_the_others_are_written(runtime, lender, outside):
    written = await write(runtime, receipt(lender, "k1", phone="n/a"), receipt(lender, "k2"))
    await run(runtime, outside)

    assert len(written) == len(outside.gateway.sent) == 1
    assert [(one.kind, one.subject) for one in await cases(runtime)] == [("sms_bad_phone", "k1")]


async def test_sixty_messages_are_each_sent_and_charged_once_by_two_workers_at_once(runtime, lender, outside):
    await write(runtime, *(receipt(lender, f"k{n}", phone=f"07{n:08d}") for n in range(60)))

    await asyncio.gather(run(runtime, outside), run(runtime, outside), run(runtime, outside))

    assert len({one.reference for one in outside.gateway.sent}) == len(outside.gateway.sent) == 60
    assert await wallet(runtime, lender) == Money(-60 * 80)
    assert [row.n for row in await rows(runtime, "SELECT count(*) AS n FROM charge_lines")] == [60]


async def test_a_partner_that_pays_nothing_for_texts_has_a_charge_line_of_nothing(runtime, lender, outside):
    await set_fee(runtime, lender, FeeTerms("sms"), business_day(runtime.clock.now()), actor="ops:test")
    await write(runtime, receipt(await outside.partner(lender.id)))
    await run(runtime, outside)

    assert [row.amount_cents for row in await rows(runtime, "SELECT amount_cents FROM charge_lines")] == [0]
    assert await wallet(runtime, lender) == Money(0)


async def test_a_text_costs_what_holds_on_the_day_it_is_written_and_names_that_price(runtime, lender, outside):
    tomorrow = business_day(runtime.clock.now()) + timedelta(days=1)
    await set_fee(runtime, lender, FeeTerms("sms", flat=Money(95)), tomorrow, actor="ops:test")
    await write(runtime, receipt(lender, "k1"))
    runtime.clock.pass_time(days=1)
    await write(runtime, receipt(lender, "k2"))
    await run(runtime, outside)

    charged = await rows(
        runtime,
        "SELECT m.business_key, l.amount_cents, f.flat_cents FROM charge_lines l JOIN messages m ON m.id = l.subject_id"
        " JOIN system_fees f ON f.id = l.system_fee_id AND f.service = 'sms' ORDER BY m.business_key",
    )
    assert [tuple(row) for row in charged] == [("k1", 80, 80), ("k2", 95, 95)]


@pytest.mark.parametrize("template", ["nope", ""])
async def test_an_unknown_template_is_refused(runtime, lender, template):
    from dataclasses import replace

    from vault_core.errors import InvalidInput

    with pytest.raises(InvalidInput):
        await write(runtime, replace(receipt(lender), template=template))
