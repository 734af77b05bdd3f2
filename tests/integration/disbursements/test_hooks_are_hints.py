"""A web hook is believed in nothing: what it says leads to a read, and only what is read counts."""

import json

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_mifos_away import away
from vault_core.disbursements.hooks import handle_mifos_events


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
