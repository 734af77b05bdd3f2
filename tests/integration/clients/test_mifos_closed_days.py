"""Closed days held against the sandbox and, when VAULT_TEST_MIFOS_URL is set, a real server: what is shown, what is refused."""

from datetime import timedelta
from uuid import uuid4

from tests.integration.clients.test_mifos_contract import write
from vault_core.clients.mifos_errors import is_closed_day
from vault_core.clients.mifos_values import MifosCapabilities
from vault_core.disbursements.closed_days import ClosedDays, held_for_closed_day
from vault_core.disbursements.eligibility import HeldFor
from vault_core.money import Money
from vault_core.outcome import Accepted, Refused


async def held(server, loan_id: int, capabilities: MifosCapabilities) -> HeldFor | None:
    loan = await server.client.loan(loan_id)
    assert loan.office_id is not None
    known = ClosedDays(await server.client.calendars([loan.office_id]), capabilities.looks_at_expected_day)
    found = held_for_closed_day(known, loan.office_id, expected=loan.expected_on, today=server.today, expected_day_only=False)
    return None if found is None else found.held_for


async def test_what_we_hold_for_a_holiday_the_server_refuses_and_what_we_do_not_it_takes(mifos):
    yesterday = mifos.today - timedelta(days=1)
    office_id, expected_then, expected_before = await mifos.loans_of_an_office_closed_on(yesterday)
    capabilities = await mifos.client.probe()
    (calendar,) = (await mifos.client.calendars([office_id])).values()
    assert (calendar.problem, calendar.why_closed(mifos.today)) == (None, None)  # one planned for today is not in force
    assert (calendar.why_closed(yesterday) or "").startswith("a holiday (")
    assert await held(mifos, expected_then.id, capabilities) is HeldFor.NOT_POSTABLE
    refused = await mifos.client.disburse(expected_then.id, await write(mifos, Money.shillings(6000)))
    assert isinstance(refused, Refused)
    assert is_closed_day(refused)
    assert await held(mifos, expected_before.id, capabilities) is None
    on_the_day = await write(mifos, Money.shillings(6000), on=yesterday, external_id=f"pv-{uuid4()}")
    assert isinstance(await mifos.client.disburse(expected_before.id, on_the_day), Accepted)


async def test_a_user_who_may_not_see_closed_days_is_told_why_they_are_not_known(mifos):
    clerk = await mifos.restricted()
    calendar = (await clerk.calendars([1]))[1]
    assert "configuration" in (calendar.problem or "")
    assert all(calendar.why_closed(mifos.today + timedelta(days=ahead)) is None for ahead in range(7))
