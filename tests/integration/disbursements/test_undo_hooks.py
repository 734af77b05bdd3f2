"""A disbursal that is undone in Mifos X is a case as soon as its hook tells of it."""

import json

from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from tests.integration.disbursements.test_posting_disbursements import paid
from tests.integration.disbursements.test_taking_back import booked_as_paid, taken_back
from tests.integration.disbursements.test_tranche_loans import PRODUCTS, look, pay_what_is_ready
from tests.integration.disbursements.test_unposted_loans import by_hand, command, handed_over
from vault_core.cases.closing import close_by_hand
from vault_core.clock import business_day
from vault_core.disbursements.hooks import handle_mifos_events
from vault_core.disbursements.undo_watch import look_for_undone
from vault_core.disbursements.unposted import look_for_posted
from vault_core.partners.url_registration import ensure_mifos_hook


async def hooked(day: Day) -> None:
    await ensure_mifos_hook(day.runtime, day.connections, day.partner, actor="ops:test")


async def test_an_undone_disbursal_is_a_case_at_once_and_is_not_paid_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await paid(day)
        await day.post()
        assert await day.states() == {1: "disbursed"}
        day.clock.pass_time(seconds=1)
        await command(day, "undodisbursal")
        assert await day.hear("mifos_hook") == 1
        assert await day.cases() == ["disbursal_undone"]
        await day.poll()
        await day.send()
        assert len(await day.payments()) == 1


async def the_case_is_closed(day: Day) -> None:
    (case,) = await day.rows("SELECT id FROM cases WHERE closed_at IS NULL")
    words = {"reason": "the money came back", "evidence": "M-Pesa portal, reversal seen, 24 Nov"}
    await close_by_hand(day.runtime, case["id"], **words, actor="ops:test")
    assert await day.cases() == []


async def test_a_case_that_a_person_closed_is_not_opened_again_for_the_same_undoing(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await paid(day)
        await day.post()
        day.clock.pass_time(seconds=1)
        await command(day, "undodisbursal")
        await day.poll()
        await the_case_is_closed(day)
        assert await day.hear("mifos_hook") == 1  # of the same undoing, late
        for _ in range(3):
            day.clock.pass_time(minutes=6)
            await day.poll()
        assert await day.cases() == []
        await by_hand(day, "BYHAND1234")
        day.clock.pass_time(minutes=6)
        await day.poll()
        assert await day.cases() == []
        await command(day, "undodisbursal")
        day.clock.pass_time(minutes=6)
        await day.poll()
        assert await day.cases() == ["disbursal_undone"]  # another undoing


async def test_an_undone_tranche_is_told_once_and_again_only_after_it_stood_again(open_day) -> None:
    tranches = [{"principal_cents": 600_000}, {"principal_cents": 400_000}]
    async with open_day([loan(1, 1_000_000, tranches=tranches)], products=[dict(each) for each in PRODUCTS]) as day:
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        day.clock.pass_time(seconds=1)
        await command(day, "undodisbursal")
        await look(day)
        await the_case_is_closed(day)
        for _ in range(2):
            day.clock.pass_time(hours=2)
            await look(day)
            await day.poll()
        assert await day.cases() == []
        await by_hand(day, "BYHAND1234", "6000")
        day.clock.pass_time(hours=2)
        await look(day)
        await command(day, "undodisbursal")
        day.clock.pass_time(hours=2)
        await day.poll()
        assert await day.cases() == ["disbursal_undone"]


async def test_a_tranche_undone_after_the_last_one_was_looked_at_is_a_case_at_once(open_day) -> None:
    tranches = [{"principal_cents": 600_000}, {"principal_cents": 400_000}]
    async with open_day([loan(1, 1_000_000, tranches=tranches)], products=[dict(each) for each in PRODUCTS]) as day:
        await hooked(day)
        await day.fund(1000)
        await day.poll()
        await pay_what_is_ready(day)
        await look(day)
        await day.review()
        await pay_what_is_ready(day)
        day.clock.pass_time(hours=2)
        await look(day)
        assert await day.rows("SELECT 1 FROM disbursements WHERE next_tranche_at IS NOT NULL") == []  # no look is due any more
        await command(day, "undolastdisbursal")
        assert await day.hear("mifos_hook") == 1
        assert await day.cases() == ["disbursal_undone"]


async def test_a_disbursal_that_was_undone_and_made_anew_before_the_hook_was_read_is_no_case(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await paid(day)
        await day.post()
        day.clock.pass_time(seconds=1)
        await command(day, "undodisbursal")
        await by_hand(day, "BYHAND1234")
        assert await day.hear("mifos_hook") == 1
        assert await day.cases() == []


async def test_a_loan_whose_posting_a_person_has_is_looked_at_when_a_hook_tells_of_an_undoing(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await handed_over(day, monkeypatch)
        (ours,) = await day.rows("SELECT external_id FROM core_postings")
        today = business_day(day.clock.now()).isoformat()
        await command(day, "disburse", actualDisbursementDate=today, transactionAmount="15000", externalId=ours["external_id"])
        await command(day, "undodisbursal")
        assert await look_for_posted(day.runtime, day.connections) == 0
        assert "undone" not in (await day.loan_row(1))["reason"]  # its look is not due yet
        await day.hear("mifos_hook")
        await look_for_posted(day.runtime, day.connections)
        assert "was undone in Mifos X" in (await day.loan_row(1))["reason"]


async def test_a_posting_that_was_to_be_undone_is_looked_for_when_the_hook_tells_of_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await hooked(day)
        await booked_as_paid(day)
        await taken_back(day)
        assert await look_for_undone(day.runtime, day.connections) == 0
        await command(day, "undodisbursal")
        assert await day.hear("mifos_hook") == 1
        assert await look_for_undone(day.runtime, day.connections) == 1  # without waiting for its hour
        assert "posting_to_be_undone" not in await day.cases()


async def test_a_hook_of_an_earlier_undoing_does_not_hide_a_posting_that_mifos_x_is_still_at_work_on(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await booked_as_paid(day, posted=False)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE core_postings SET state = 'unknown', tries = 1"))  # called, without an answer
        await taken_back(day)
        undone = {"loanId": 1, "resourceId": 1, "changes": {"status": {"id": 200}}}
        said = {"entityName": "LOAN", "actionName": "DISBURSALUNDO", "response": undone}
        event = await day.callbacks.keep(day.partner.id, "mifos_hook", json.dumps(said).encode())
        await handle_mifos_events(day.runtime, day.connections, [event])
        assert await look_for_undone(day.runtime, day.connections) == 0
        assert "posting_to_be_undone" in await day.cases()
