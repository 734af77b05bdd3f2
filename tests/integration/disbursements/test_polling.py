"""Polling: what is asked of Mifos X, a set that shrinks under the reading, rows that cannot be read, servers before 1.9."""

from typing import Any

import pytest

from tests.integration.disbursements.conftest import client, loan
from tests.integration.disbursements.test_posting_disbursements import disbursals
from tests.integration.disbursements.test_unposted_loans import by_hand
from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.clients.mifos_session import MifosSession
from vault_core.disbursements import detection
from vault_core.errors import RemoteBusy, RemoteRefusal, VaultError
from vault_core.outcome import Outcome, Unknown

LEGACY = {"legacy": True, "takes_external_ids": False}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The parameters of every list of loans that is asked for."""
    seen: list[dict[str, str]] = []
    real = MifosSession.get

    async def get(self: MifosSession, path: str, params: Any = None) -> Any:
        if path == "/loans":
            seen.append(dict(params or {}))
        return await real(self, path, params)

    monkeypatch.setattr(MifosSession, "get", get)
    return seen


@pytest.mark.parametrize(
    ("host", "filters"), [({}, {"status": "200"}), (LEGACY, {"sqlSearch": "l.loan_status_id=200"})], ids=["new", "before 1.9"]
)
async def test_every_list_of_loans_is_asked_for_with_a_limit_an_order_and_the_filter_that_the_server_knows(
    open_day, asked: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, host: dict[str, Any], filters: dict[str, str]
) -> None:
    monkeypatch.setattr(detection, "PAGE", 3)
    async with open_day([loan(number) for number in range(1, 9)], **host) as day:
        asked.clear()
        (report,) = await day.poll()
        assert (report.approved, report.found, report.error) == (8, 8, None)
        page = {"limit": "3", "orderBy": "id", "sortOrder": "ASC"}
        assert sorted(asked, key=lambda params: int(params["offset"])) == [
            {**filters, **page, "offset": offset} for offset in ("0", "2", "4", "6")
        ]


async def test_a_set_that_shrinks_while_it_is_read_hides_no_loan(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "PAGE", 3)
    async with open_day([loan(number) for number in range(1, 10)]) as day:
        real, calls = MifosClient.approved_loans, []

        async def shrinking(self: MifosClient, capabilities: Any, *, offset: int, limit: int = 100) -> Any:
            page = await real(self, capabilities, offset=offset, limit=limit)
            calls.append(offset)
            if len(calls) == 1:
                for number in (1, 2, 3):
                    await by_hand(day, None, loan_id=number)
            return page

        monkeypatch.setattr(MifosClient, "approved_loans", shrinking)
        await day.poll()
        assert {4, 5, 6, 7, 8, 9} <= set(await day.states())


async def test_a_row_that_cannot_be_read_is_told_and_holds_back_no_other(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        real = MifosSession.get

        async def damaged(self: MifosSession, path: str, params: Any = None) -> Any:
            body = await real(self, path, params)
            if path == "/loans":
                body["pageItems"][0]["netDisbursalAmount"] = "a lot"
            return body

        monkeypatch.setattr(MifosSession, "get", damaged)
        (report,) = await day.poll()
        assert (report.approved, report.found) == (1, 1)
        (partner,) = await day.rows("SELECT last_poll_error FROM partners")
        assert "1 approved loans could not be read and are not paid: loan 1: netDisbursalAmount" in partner["last_poll_error"]
        monkeypatch.setattr(MifosSession, "get", real)
        await day.poll()
        assert set(await day.states()) == {1, 2}
        assert (await day.rows("SELECT last_poll_error FROM partners"))[0]["last_poll_error"] is None


@pytest.mark.parametrize("failure", [RemoteRefusal("hidden", code="error.msg.loan.id.invalid"), RemoteBusy("HTTP 500")])
async def test_a_top_up_whose_older_loan_cannot_be_read_is_told_and_holds_back_no_other(
    open_day, monkeypatch: pytest.MonkeyPatch, failure: VaultError
) -> None:
    older, top_up = loan(7, 1_000_000, client=1, status=300), loan(1, 2_000_000, topup_of=7)
    async with open_day([older, top_up, loan(2)], [client(1), client(2)]) as day:
        real = MifosSession.get

        async def refused(self: MifosSession, path: str, params: Any = None) -> Any:
            if path.endswith("/template"):
                raise failure
            return await real(self, path, params)

        monkeypatch.setattr(MifosSession, "get", refused)
        (report,) = await day.poll()
        assert (report.approved, report.found, await day.states()) == (2, 1, {2: "ready"})
        assert "1 approved loans could not be read and are not paid: loan 000000001" in (report.error or "")
        monkeypatch.setattr(MifosSession, "get", real)
        await day.poll()
        assert set(await day.states()) == {1, 2}


async def test_a_whole_day_against_a_server_before_1_9(open_day) -> None:
    loans = [loan(1, fee_cents=45_000), loan(2), loan(3, status=300), loan(4, status=100)]
    async with open_day(loans, **LEGACY) as day:
        features = day.partner.mifos_capabilities
        assert (features.status_filter, features.idempotency, features.loan_external_ids) == (False, False, False)
        await day.fund(1000)
        (report,) = await day.poll()
        assert (report.approved, sorted(await day.states())) == (2, [1, 2])
        assert (await day.send()).accepted == 2
        await day.hear("b2c_result")
        await day.faults(mifos_timeout_after_posting={"units": ["loan:1"]})
        for _ in range(4):
            await day.post()
            day.clock.pass_time(minutes=10)
        assert await day.states() == {1: "disbursed", 2: "disbursed"}
        posted = {row["receipt"]: (row["amount_cents"], row["external_id"]) for row in await disbursals(day) if row["receipt"]}
        paid = {row["receipt"]: row["amount_cents"] for row in await day.payments()}
        assert paid.keys() == posted.keys()
        assert sorted(posted.values()) == [(1_500_000, None), (1_500_000, None)]
        assert sorted(paid.values()) == [1_455_000, 1_500_000]
        assert (await day.cases(), day.ledger_findings()) == ([], [])


async def test_on_a_server_before_1_9_a_loan_that_is_active_without_our_receipt_goes_to_a_person_and_is_not_posted_twice(
    open_day, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def lost(_self: MifosClient, _loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        calls.append(write)
        return Unknown("no answer")

    async with open_day([loan(1)], [client(1)], **LEGACY) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        with monkeypatch.context() as outage:
            outage.setattr(MifosClient, "disburse", lost)
            await day.post()
        assert [(write.idempotency_key, write.external_id) for write in calls] == [(None, None)]
        await by_hand(day, None)
        for _ in range(3):
            day.clock.pass_time(minutes=10)
            await day.post()
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert len(await disbursals(day)) == 1
