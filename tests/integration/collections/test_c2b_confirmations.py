import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from vault_core.cases.case_book import list_open_cases
from vault_core.collections.confirmations import handle_confirmations
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import Money

SAMPLES = Path(__file__).parents[2] / "data/daraja"
CONFIRMATIONS = sorted(path for path in SAMPLES.glob("c2b_confirmation_*.json") if path.name != "c2b_confirmation_reply.json")

STORE = text(
    """
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, body_sealed, body_bytes, parsed,
                                next_sweep_at)
    VALUES (:id, :partner_id, 'c2b_confirmation', 'mpesa.c2b.confirmations', :now, '196.201.214.200', 'application/json', :sealed,
            :size, true, :now)
    """
)


def body(receipt="SKE7AB12C3", amount="150.00", short_code="600100", reference="000000012", **more):
    return json.dumps(
        {
            "TransactionType": "Pay Bill",
            "TransID": receipt,
            "TransTime": "20261120101500",
            "TransAmount": amount,
            "BusinessShortCode": short_code,
            "BillRefNumber": reference,
            "OrgAccountBalance": "9150.00",
            "MSISDN": "2547 ***** 126",
            "FirstName": "JANE",
            **more,
        }
    ).encode()


async def store(runtime, partner, *bodies):
    ids = [runtime.new_id() for _ in bodies]
    async with runtime.engine.begin() as connection:
        for event_id, raw in zip(ids, bodies, strict=True):
            sealed = runtime.sealer.seal(raw, bound_to=sealed_body_binding(event_id))
            await connection.execute(
                STORE, {"id": event_id, "partner_id": partner.id, "now": runtime.clock.now(), "sealed": sealed, "size": len(raw)}
            )
    return ids


async def rows(runtime, sql):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text(sql))).all()


async def count(runtime, table):
    return len(await rows(runtime, f"SELECT 1 FROM {table}"))  # noqa: S608 - the tests name their tables


async def posted(runtime, partner, code):
    async with runtime.engine.connect() as connection:
        return (await balance(connection, AccountRef(partner.id, code))).posted


async def cases(runtime):
    async with runtime.engine.connect() as connection:
        return await list_open_cases(connection)


async def test_a_confirmation_is_booked_with_its_rail_line_its_entries_and_the_call_to_post_it(runtime, lender, outside):
    ids = await store(runtime, lender, body())
    await handle_confirmations(runtime, outside, ids)

    [row] = await rows(runtime, "SELECT * FROM collections")
    assert (row.receipt, row.amount_cents, row.state, row.source, row.event_id) == (
        "SKE7AB12C3",
        150_00,
        "matching",
        "c2b",
        ids[0],
    )
    assert row.org_balance_cents == 9150_00
    assert row.happened_at.isoformat() == "2026-11-20T07:15:00+00:00"
    assert b"000000012" not in bytes(row.bill_reference_sealed)
    assert await posted(runtime, lender, "c2b_float") == await posted(runtime, lender, "collected_unposted") == Money(150_00)
    [line] = await rows(runtime, "SELECT * FROM rail_lines")
    assert (line.rail, line.receipt, line.amount_cents, line.evidence_event_id) == ("mpesa_c2b", "SKE7AB12C3", 150_00, ids[0])
    [call] = await rows(runtime, "SELECT * FROM outbox")
    assert (call.kind, call.subject, call.topic) == ("collection.post", str(row.id), "vault.dispatch.mifos")
    assert "000000012" not in call.ordering_key
    [event] = await rows(runtime, "SELECT state, effect FROM inbound_events")
    assert (event.state, event.effect) == ("processed", "booked SKE7AB12C3")


async def test_payments_under_one_reference_share_an_ordering_key_however_it_is_typed(runtime, lender, outside):
    await handle_confirmations(
        runtime,
        outside,
        await store(runtime, lender, body("R1", reference="ln 1"), body("R2", reference=" LN  1 "), body("R3", reference="ln 2")),
    )

    assert len({row.ordering_key for row in await rows(runtime, "SELECT ordering_key FROM outbox")}) == 2


async def test_a_receipt_told_twice_in_one_batch_later_and_at_once_is_booked_once(runtime, lender, outside):
    await handle_confirmations(runtime, outside, await store(runtime, lender, body(), body()))
    await handle_confirmations(runtime, outside, await store(runtime, lender, body()))
    many = [await store(runtime, lender, body("R9"), body("R8"), body("R9")) for _ in range(4)]
    await asyncio.gather(*(handle_confirmations(runtime, outside, ids) for ids in many))

    assert await count(runtime, "collections") == await count(runtime, "outbox") == await count(runtime, "rail_lines") == 3
    assert await posted(runtime, lender, "c2b_float") == Money(450_00)
    effects = [row.effect for row in await rows(runtime, "SELECT effect FROM inbound_events")]
    assert (
        sorted(effects)
        == ["booked R8", "booked R9", "booked SKE7AB12C3"]
        + ["duplicate R8"] * 3
        + ["duplicate R9"] * 7
        + ["duplicate SKE7AB12C3"] * 2
    )
    assert await cases(runtime) == []


async def test_the_same_delivery_handled_again_does_nothing(runtime, lender, outside):
    ids = await store(runtime, lender, body())
    await handle_confirmations(runtime, outside, ids)
    await handle_confirmations(runtime, outside, ids)

    assert await count(runtime, "collections") == 1
    assert [row.effect for row in await rows(runtime, "SELECT effect FROM inbound_events")] == ["booked SKE7AB12C3"]


async def test_a_repeat_with_another_amount_opens_a_case_and_books_nothing(runtime, lender, outside):
    await handle_confirmations(runtime, outside, await store(runtime, lender, body()))
    await handle_confirmations(runtime, outside, await store(runtime, lender, body(amount="151.00")))

    assert [(one.kind, one.subject, one.amount) for one in await cases(runtime)] == [
        ("receipt_conflict", "600100 SKE7AB12C3", Money(151_00))
    ]
    assert await posted(runtime, lender, "c2b_float") == Money(150_00)


async def test_bodies_that_cannot_be_read_are_set_aside_and_hold_back_nobody(runtime, lender, outside):
    poison = [
        b"<html>",
        b"{",
        body(amount="-1"),
        body(amount="0"),
        body(amount="1.001"),
        body(receipt=""),
        body(TransTime="soon"),
    ]
    good = [body(f"GOOD{n}") for n in range(6)]
    mixed = [one for pair in zip(good, poison, strict=False) for one in pair] + poison[6:]
    await handle_confirmations(runtime, outside, await store(runtime, lender, *mixed))

    assert await count(runtime, "collections") == 6
    states = [row.state for row in await rows(runtime, "SELECT state FROM inbound_events ORDER BY id")]
    assert states.count("processed") == 6
    assert states.count("exception") == 7
    assert all(row.cause for row in await rows(runtime, "SELECT cause FROM inbound_events WHERE state = 'exception'"))


async def test_a_short_code_of_another_partner_is_not_booked_and_opens_a_case(runtime, lender, add_lender, outside):
    other = await add_lender("beta", "600200")
    ids = await store(runtime, lender, body("R1", short_code="600200"), body("R2"))
    await handle_confirmations(runtime, outside, ids)

    assert [row.receipt for row in await rows(runtime, "SELECT receipt FROM collections")] == ["R2"]
    assert [(one.kind, one.partner_id, one.amount) for one in await cases(runtime)] == [
        ("foreign_short_code", lender.id, Money(150_00))
    ]
    assert await posted(runtime, other, "c2b_float") == Money(0)
    [event] = await rows(runtime, "SELECT cause FROM inbound_events WHERE state = 'exception'")
    assert "short code 600200, which is not alpha's" in event.cause


@pytest.mark.parametrize("path", CONFIRMATIONS, ids=lambda path: path.stem)
async def test_every_sample_confirmation_is_booked(runtime, add_lender, outside, path):
    sample = json.loads(path.read_text())
    partner = await add_lender("sample", str(sample["BusinessShortCode"]))
    await handle_confirmations(runtime, outside, await store(runtime, partner, path.read_bytes()))

    [row] = await rows(runtime, "SELECT * FROM collections")
    assert row.receipt == sample["TransID"]
    assert row.amount_cents == Money.parse(str(sample["TransAmount"])).cents
    typed = runtime.sealer.open_text(row.bill_reference_sealed, bound_to=f"collections:{row.id}:bill_reference")
    assert typed.strip() == str(sample["BillRefNumber"]).strip()
    in_clear = str(sample["MSISDN"]).isdigit()
    assert (row.payer_phone_hash is not None) == in_clear
