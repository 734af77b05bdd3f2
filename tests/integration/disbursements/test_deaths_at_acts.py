"""The process ends at a commit that is not on every payout's way: a person's act, a look, a second call.

Before the commit nothing was done and doing it again does it; after it all was done and doing it again changes nothing more. The
commits on the way are died at by real processes (test_crash_points.py), which holds that each commit of the code is in one of the two.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.float_day import ask, buy, later, send_first
from tests.integration.disbursements.test_hooks_are_hints import set_sealed
from tests.integration.disbursements.test_mifos_away import move_mifos
from tests.integration.disbursements.test_posting_disbursements import paid
from tests.integration.disbursements.test_resolving import LARGE, approve, resolve, with_a_person
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from tests.integration.disbursements.test_taking_back import booked_as_paid, taken_back
from tests.integration.disbursements.test_tariff_audit import CHANGED, audit, pay
from tests.integration.disbursements.test_top_ups import OLDER, TOP_UP, repay_older
from tests.integration.disbursements.test_undo_hooks import hooked
from tests.integration.disbursements.test_unposted_loans import again, by_hand, command, handed_over, undone_unseen
from vault_core import fault_points
from vault_core.disbursements.float_audit import audit_floats
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.payout_halt import begin_halt, end_halt
from vault_core.disbursements.person_acts import retry_payout
from vault_core.disbursements.resolution_rules import SeenUnpaid
from vault_core.disbursements.resolving import reject_resolution
from vault_core.disbursements.resuming import resume_postings
from vault_core.disbursements.sending import send_ready
from vault_core.disbursements.top_up_watch import compare_payoffs
from vault_core.disbursements.undo_watch import look_for_undone
from vault_core.disbursements.unposted import look_for_posted
from vault_core.errors import Conflict, NotFound
from vault_core.postings.mifos_outages import probe_away

Step = Callable[[Day, pytest.MonkeyPatch], Awaitable[Any]]


class Killed(BaseException):
    """Stands for the process ending here."""


@dataclass(frozen=True, slots=True)
class Act:
    """What is done before, and the act that commits at the place it is named by."""

    before: Step
    act: Step
    loans: tuple[dict[str, Any], ...] = (loan(1),)
    people: tuple[dict[str, Any], ...] = (client(1),)


async def _failed(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await tell(day, result(await sent(day), code=8))


async def _unresolved(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await with_a_person(day)


async def _proposed(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await with_a_person(day)
    await resolve(day)


async def _wrongly_booked(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await booked_as_paid(day)
    await resolve(day, SeenUnpaid())


async def _posted_by_hand(day: Day, patch: pytest.MonkeyPatch) -> None:
    await by_hand(day, await handed_over(day, patch))


async def _undone_by_hand(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await booked_as_paid(day)
    await taken_back(day)
    await command(day, "undodisbursal")


async def _undone_unseen(day: Day, patch: pytest.MonkeyPatch) -> None:
    await undone_unseen(day, patch)


async def _post_again(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await again(day, str((await day.loan_row(1))["receipt"]))


async def _handed_over(day: Day, patch: pytest.MonkeyPatch) -> None:
    await handed_over(day, patch)


async def _nothing(_day: Day, _patch: pytest.MonkeyPatch) -> None:
    """Any day."""


async def _halted(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await begin_halt(day.runtime, reason="a look", actor="ops:asha")


async def _locked_once(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await paid(day)
    await day.faults(mifos_409_lock={"units": ["loan:1"]})
    await day.post()


async def _bad_number(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await day.fund(1000)
    await day.poll()
    await day.control("setup", {"mifos": {"alpha": {"clients": [client(1)]}}})


async def _after_an_hour(day: Day, look: Callable[..., Awaitable[Any]]) -> None:
    day.clock.pass_time(minutes=61)
    await look(day.runtime, day.connections)


async def _id(day: Day) -> Any:
    return (await day.loan_row(1))["id"]


async def _retry(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await retry_payout(day.runtime, await _id(day), actor="ops:asha", reason="agreed")


async def _reject(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await reject_resolution(day.runtime, await _id(day), actor="ops:barasa", reason="another loan's")


async def _resume(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await resume_postings(day.runtime, "alpha", actor="ops:asha", reason="mended")


async def _post_later(day: Day, _patch: pytest.MonkeyPatch) -> None:
    day.clock.pass_time(minutes=20)
    await day.post()


async def _review_later(day: Day, _patch: pytest.MonkeyPatch) -> None:
    day.clock.pass_time(minutes=61)
    await day.review()


async def _undone_before_its_hook_is_heard(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await hooked(day)
    await paid(day)
    await day.post()
    await day.hear("mifos_hook")
    day.clock.pass_time(seconds=1)
    await command(day, "undodisbursal")


async def _hook_of_a_lender_whose_credentials_do_not_open(day: Day, _patch: pytest.MonkeyPatch) -> None:
    approved = {"entityName": "LOAN", "actionName": "APPROVE", "response": {"loanId": 1, "resourceId": 1}}
    await day.callbacks.keep(day.partner.id, "mifos_hook", json.dumps(approved).encode())
    await set_sealed(day, b"moved")
    day.connections.forget(day.partner.id)


async def _posted_top_up_of_which_less_was_taken(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await paid(day)
    await repay_older(day, 250)
    await day.post()


async def _compare_later(day: Day, _patch: pytest.MonkeyPatch) -> None:
    day.clock.pass_time(minutes=5)
    await compare_payoffs(day.runtime, day.connections)


async def _mifos_back(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await paid(day)
    former = await move_mifos(day, NOWHERE)
    await day.post()
    await move_mifos(day, former)


async def _mifos_gone_again(day: Day, patch: pytest.MonkeyPatch) -> None:
    await _mifos_back(day, patch)
    await _probe_later(day, patch)
    await move_mifos(day, NOWHERE)


async def _probe_later(day: Day, _patch: pytest.MonkeyPatch) -> None:
    day.clock.pass_time(hours=1)
    await probe_away(day.runtime, day.connections)


async def _fees_changed(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await day.fund(1000)
    await day.faults(tariff_changed=CHANGED)
    await pay(day)


async def _told_of_one_receipt_twice(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await tell(day, result(await sent(day)))
    (other,) = await day.attempts(2)
    await day.callbacks.keep(day.partner.id, "b2c_result", result(other))


async def _money_went(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await day.fund(10_000)
    await later(day)
    await day.poll()
    await send_first(day)
    await buy(day, -7_000)
    await later(day)
    await send_ready(day.runtime, day.connections, [(await day.loan_row(2))["id"]])
    await day.hear("b2c_result")
    await later(day)


async def _float_came(day: Day, _patch: pytest.MonkeyPatch) -> None:
    await tell(day, result(await sent(day), code=1))
    await buy(day, 200_000)
    day.clock.pass_time(minutes=11)
    await ask(day)


ACTS: dict[str, Act] = {
    "disbursements.person_acts._act": Act(_failed, _retry),
    "disbursements.resolving.resolve_payout": Act(_unresolved, lambda day, _: resolve(day)),
    "disbursements.resolving.approve_resolution": Act(_wrongly_booked, lambda day, _: approve(day, "ops:barasa")),
    "disbursements.resolving.reject_resolution": Act(_proposed, _reject, loans=(loan(1, LARGE),)),
    "disbursements.resuming.resume_postings": Act(_handed_over, _resume),
    "disbursements.payout_halt.begin_halt": Act(_nothing, _halted),
    "disbursements.payout_halt.end_halt": Act(_halted, lambda day, _: end_halt(day.runtime, reason="seen", actor="ops:asha")),
    "disbursements.unposted.look_for_posted.take": Act(_posted_by_hand, lambda day, _: _after_an_hour(day, look_for_posted)),
    "disbursements.unposted._of_partner": Act(_posted_by_hand, lambda day, _: _after_an_hour(day, look_for_posted)),
    "disbursements.undo_watch.look_for_undone.take": Act(_undone_by_hand, lambda day, _: _after_an_hour(day, look_for_undone)),
    "disbursements.undo_watch._of_partner": Act(_undone_by_hand, lambda day, _: _after_an_hour(day, look_for_undone)),
    "disbursements.undone_posting.post_undone_again": Act(_undone_unseen, _post_again),
    "disbursements.review._of_partner": Act(_bad_number, _review_later, people=(client(1, "12"),)),
    "postings.posting_rows.mark_calling": Act(_locked_once, _post_later),
    "disbursements.hooks._note_undone": Act(_undone_before_its_hook_is_heard, lambda day, _: day.hear("mifos_hook")),
    "disbursements.hooks._look": Act(_hook_of_a_lender_whose_credentials_do_not_open, lambda day, _: day.hear("mifos_hook")),
    "disbursements.top_up_watch.compare_payoffs.take": Act(
        _posted_top_up_of_which_less_was_taken, _compare_later, (OLDER, TOP_UP)
    ),
    "disbursements.top_up_watch._of_partner": Act(_posted_top_up_of_which_less_was_taken, _compare_later, (OLDER, TOP_UP)),
    "outbox.outages.begin_outage": Act(_mifos_gone_again, _post_later),
    "outbox.outages.take_probes": Act(_mifos_back, _probe_later),
    "postings.mifos_outages._probe": Act(_mifos_back, _probe_later),
    "disbursements.tariff_audit.audit_tariffs": Act(
        _fees_changed,
        lambda day, _: audit(day),
        tuple(loan(one, 1_000_00) for one in range(1, 6)),
        tuple(client(one) for one in range(1, 6)),
    ),
    "inbox.applying.set_aside": Act(
        _told_of_one_receipt_twice, lambda day, _: day.hear(), (loan(1), loan(2)), (client(1), client(2))
    ),
    "disbursements.float_audit._audit": Act(
        _money_went, lambda day, _: audit_floats(day.runtime), (loan(1, 10_000_00), loan(2, 9_000_00)), (client(1), client(2))
    ),
    "disbursements.float_watch._Look.take": Act(_float_came, lambda day, _: watch_floats(day.runtime)),
}
NOWHERE = "http://127.0.0.1:9/fineract-provider/api/v1"
# What a payout, its money and its story consist of, without times: equal before and after what must change nothing.
_STANDING = """
    SELECT 'loan ' || state || coalesce(held_for, '') || coalesce(receipt, '') || taken_back AS line FROM disbursements
    UNION ALL SELECT 'instruction ' || number || state || coalesce(receipt, '') FROM disbursement_attempts
    UNION ALL SELECT 'case ' || kind || subject || (closed_at IS NULL) FROM cases
    UNION ALL SELECT 'ledger ' || kind || key FROM ledger_transactions
    UNION ALL SELECT 'hold ' || key || state FROM ledger_holds
    UNION ALL SELECT 'posting ' || state || external_id FROM core_postings
    UNION ALL SELECT 'word ' || state FROM disbursement_resolutions
    UNION ALL SELECT 'text ' || business_key FROM messages
    UNION ALL SELECT 'halt ' || (ended_at IS NULL) FROM payout_halts
    UNION ALL SELECT 'act ' || act FROM audit_log
    UNION ALL SELECT 'delivery ' || state FROM inbound_events WHERE purpose <> 'query_result'
    UNION ALL SELECT 'away ' || topic FROM outbox_outages
    UNION ALL SELECT 'fee ' || (judged_at IS NULL) FROM mpesa_fee_readings
    UNION ALL SELECT 'in Mifos X' FROM core_postings WHERE state = 'posted'
    ORDER BY 1
"""


async def standing(day: Day) -> list[str]:
    return [row["line"] for row in await day.rows(_STANDING)]


async def dies_at(point: str, day: Day, patch: pytest.MonkeyPatch, act: Step) -> bool:
    def reached(passed: str) -> None:
        if passed == point:
            raise Killed

    with patch.context() as armed:
        armed.setattr(fault_points, "_reached", reached)
        try:
            await act(day, patch)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("place", ACTS)
async def test_what_dies_before_its_commit_did_nothing_and_after_it_all_once(open_day, monkeypatch, place: str) -> None:
    its = ACTS[place]
    async with open_day(list(its.loans), list(its.people)) as day:
        await its.before(day, monkeypatch)
        await day.quiet()  # hooks that what happened before has caused are there
        before = await standing(day)
        assert await dies_at(f"before commit {place}", day, monkeypatch, its.act)
        assert await standing(day) == before
        assert await dies_at(f"after commit {place}", day, monkeypatch, its.act)
        with suppress(Conflict, NotFound):  # it is done
            await its.act(day, monkeypatch)
        done = await standing(day)
        assert done != before
        with suppress(Conflict, NotFound):
            await its.act(day, monkeypatch)
        assert await standing(day) == done
        truth = (await day.truth())["mifos"]["alpha"]["loans"]["1"]["transactions"]
        most = 1 + any("topup_of" in one for one in its.loans)  # what pays off the older loan is a disbursement of its own
        assert sum(each["kind"] == "disbursement" and not each["reversed"] for each in truth) <= most
        assert day.ledger_findings() == []
