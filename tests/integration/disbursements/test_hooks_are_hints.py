"""A web hook is believed in nothing: what it says leads to a read, and only what is read counts."""

import json

from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_mifos_away import away
from vault_core.collections.core_payments import handle_payment_hooks
from vault_core.disbursements.hooks import handle_mifos_events
from vault_core.inbox.sweeping import take_unprocessed
from vault_core.partners.connections import Connections


async def told(day: Day, loan_id: int) -> str | None:
    """What became of a hook that says the loan was approved; None while it is left for later."""
    said = {"entityName": "LOAN", "actionName": "APPROVE", "response": {"loanId": loan_id, "resourceId": loan_id}}
    event = await day.callbacks.keep(day.partner.id, "mifos_hook", json.dumps(said).encode())
    await handle_mifos_events(day.runtime, day.connections, [event])
    (row,) = await day.rows("SELECT state, effect FROM inbound_events WHERE id = :id", id=event)
    return row["effect"] if row["state"] == "processed" else None


async def test_a_hook_that_says_approved_of_a_loan_that_is_not_or_does_not_exist_pays_nothing(open_day) -> None:
    people = [client(1), client(2)]
    async with open_day([loan(1, status=100), loan(2, status=300)], people) as day:
        await day.fund(1000)
        assert await told(day, 1) == "loan 1 is in status 100, not approved"
        assert await told(day, 2) == "loan 2 is in status 300, not approved"
        assert await told(day, 999) == "loan 999 does not exist in Mifos X, or our user may not see it"
        assert await day.states() == {}
        assert await day.payments() == []


async def test_a_hook_whose_loan_cannot_be_read_is_left_for_later_and_pays_once_then(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        async with away(day):
            assert await told(day, 1) is None
        ids = [event for event, _ in await day.stored("mifos_hook")]
        await handle_mifos_events(day.runtime, day.connections, ids)
        await handle_mifos_events(day.runtime, day.connections, ids)
        assert await day.states() == {1: "accepted"}
        assert len(await day.payments()) == 1


async def test_hooks_of_a_lender_whose_credentials_do_not_open_are_kept_and_taken_up_when_they_do(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        (kept,) = await day.rows("SELECT sealed FROM partner_credentials WHERE purpose = 'mifos_password'")
        await set_sealed(day, b"moved")
        approved = {"entityName": "LOAN", "actionName": "APPROVE", "response": {"loanId": 1, "resourceId": 1}}
        repaid = {"entityName": "LOAN", "actionName": "REPAYMENT", "response": {"loanId": 7, "resourceId": 9}}
        ids = [await day.callbacks.keep(day.partner.id, "mifos_hook", json.dumps(said).encode()) for said in (approved, repaid)]
        blind = Connections(day.runtime)
        for _ in range(2):
            await handle_mifos_events(day.runtime, blind, await handle_payment_hooks(day.runtime, blind, ids))
        assert {row["state"] for row in await day.rows("SELECT state FROM inbound_events")} == {"stored"}
        assert await day.cases() == ["credentials_sealed"]
        for _ in range(6):  # each wait is longer than the one before
            day.clock.pass_time(hours=1)
            await take_unprocessed(day.runtime)
        day.connections.forget(day.partner.id)
        assert "SealBroken" in (await day.poll())[0].error
        await set_sealed(day, kept["sealed"])
        await day.poll()
        assert await day.cases() == []
        assert {event.event_id for event in await take_unprocessed(day.runtime)} == set(ids)
        await handle_mifos_events(day.runtime, day.connections, ids[:1])
        assert {row["id"] for row in await day.rows("SELECT id FROM inbound_events WHERE state = 'processed'")} == {ids[0]}


async def set_sealed(day: Day, sealed: bytes) -> None:
    async with day.runtime.engine.begin() as connection:
        sql = "UPDATE partner_credentials SET sealed = :sealed WHERE purpose = 'mifos_password'"
        await connection.execute(text(sql), {"sealed": sealed})
