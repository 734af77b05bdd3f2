"""Lenders on Mifos X 1.4: no status filter, no keys, no path to find an external id by, and web hooks of the bare result."""

from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals, paid
from tests.integration.disbursements.test_tranche_loans import PRODUCTS
from tests.integration.disbursements.test_unposted_loans import command
from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.clock import business_day
from vault_core.disbursements import detection
from vault_core.outcome import Accepted, Outcome, Unknown
from vault_core.partners.url_registration import ensure_mifos_hook

OLDEST = {"oldest": True}
REFUSING = {"oldest": True, "takes_external_ids": False}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, CoreWrite]]:
    """The disbursals that are sent to Mifos X."""
    seen: list[tuple[int, CoreWrite]] = []
    real = MifosClient.disburse

    async def disburse(self: MifosClient, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        seen.append((loan_id, write))
        return await real(self, loan_id, write)

    monkeypatch.setattr(MifosClient, "disburse", disburse)
    return seen


def in_tranches(open_day: Any, clock: Any, **host: Any) -> Any:
    """A day with a loan in two tranches, which no state guards: the server takes a disbursal as often as it comes."""
    today = business_day(clock.now()).isoformat()
    tranches = [{"principal_cents": each, "expected_on": today} for each in (600_000, 400_000)]
    products = [dict(each) for each in PRODUCTS]
    return open_day([loan(1, 1_000_000, tranches=tranches)], products=products, **host)


async def post_for(day: Day, hours: int) -> None:
    for _ in range(hours):
        await day.post()
        day.clock.pass_time(hours=1)


async def test_the_oldest_server_is_recognised_and_of_all_its_loans_the_approved_are_paid_and_posted(
    open_day, written: list[tuple[int, CoreWrite]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "PAGE", 3)
    others = {2: 300, 4: 100, 6: 300, 9: 100}
    async with open_day([loan(number, status=others.get(number, 200)) for number in range(1, 10)], **OLDEST) as day:
        assert day.partner.mifos_capabilities.to_json() == {
            "status_filter": False,
            "idempotency": False,
            "loan_external_ids": True,
            "savings_external_ids": False,
            "version": "1.4.0",
            "external_id_paths": False,
        }
        await paid(day)
        await day.post()  # a 200 names no transaction there: each is read back
        day.clock.pass_time(minutes=10)
        await day.post()
        assert await day.states() == dict.fromkeys((1, 3, 5, 7, 8), "disbursed")
        assert sorted(loan_id for loan_id, _ in written) == [1, 3, 5, 7, 8]
        assert {write.idempotency_key for _, write in written} == {None}
        ours = {row["receipt"]: row["external_id"] for row in await disbursals(day) if row["receipt"]}
        assert ours == {write.receipt: write.external_id for _, write in written}
        assert ours.keys() == {row["receipt"] for row in await day.payments()}
        assert (await day.cases(), day.ledger_findings()) == ([], [])


@pytest.mark.parametrize(
    ("host", "fault"),
    [(OLDEST, "mifos_timeout_after_posting"), (REFUSING, "mifos_500_after_posting")],
    ids=["external ids", "the receipt alone"],
)
async def test_a_tranche_whose_answer_is_lost_is_read_back_and_not_posted_twice(
    open_day, clock, written: list[tuple[int, CoreWrite]], host: dict[str, Any], fault: str
) -> None:
    async with in_tranches(open_day, clock, **host) as day:
        await paid(day)
        await day.faults(**{fault: {"units": ["loan:1"]}})
        await post_for(day, 2)
        (stands,) = await disbursals(day)
        assert (stands["receipt"], stands["amount_cents"]) == ((await day.loan_row(1))["receipt"], 600_000)
        assert (len(written), await day.states()) == (1, {1: "disbursed"})


async def test_a_call_that_the_server_takes_up_late_does_not_stand_beside_its_repetition(
    open_day, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[CoreWrite] = []

    async def slow(_self: MifosClient, _loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        late.append(write)
        return Unknown("no answer")

    async with in_tranches(open_day, clock, **OLDEST) as day:
        await paid(day)
        with monkeypatch.context() as away:
            away.setattr(MifosClient, "disburse", slow)
            await day.post()
        day.clock.pass_time(hours=1)
        await day.post()
        mifos = await day.connections.mifos(day.partner.id)
        assert not isinstance(await mifos.disburse(1, late[0]), Accepted)
        assert len(await disbursals(day)) == 1


async def test_where_only_the_receipt_guards_a_posting_its_repetition_waits_until_the_server_must_be_done(
    open_day, clock, written: list[tuple[int, CoreWrite]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_self: MifosClient, _loan_id: int, _write: CoreWrite) -> Outcome[Posted]:
        return Unknown("no answer")

    async with in_tranches(open_day, clock, **REFUSING) as day:
        await paid(day)
        with monkeypatch.context() as away:
            away.setattr(MifosClient, "disburse", lost)
            await day.post()
        day.clock.pass_time(seconds=day.runtime.pace.mifos_write_timeout)
        await day.post()
        assert written == []
        await post_for(day, 3)
        assert [write.external_id for _, write in written] == [None]
        assert len(await disbursals(day)) == 1


async def test_a_disbursal_that_somebody_undid_before_it_was_read_back_is_not_made_again_and_a_person_decides(open_day) -> None:
    async with open_day([loan(1)], **OLDEST) as day:
        await paid(day)
        await day.faults(mifos_500_after_posting={"units": ["loan:1"]})
        await day.post()
        await command(day, "undodisbursal")
        await post_for(day, 40)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert [row["reversed"] for row in await disbursals(day)] == [True]


async def test_a_hook_of_the_bare_result_has_the_approved_loan_read_and_paid(open_day) -> None:
    async with open_day([loan(1, status=100), loan(2, status=100)], [client(1), client(2)], **OLDEST) as day:
        await day.fund(1000)
        await ensure_mifos_hook(day.runtime, day.connections, day.partner, actor="ops:test")
        await day.control("approve", {"host": "alpha", "loans": [1, 1]})  # the second is refused, and not told
        assert await day.hear("mifos_hook") == 1
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}
        assert len(await day.payments()) == 1
