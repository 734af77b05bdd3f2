"""The demo's office at work: in the sandbox, and in a real Mifos X too when VAULT_TEST_MIFOS_URL (and _USER, ...) is set."""

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import httpx
import pytest

from local_stack.demo.day_plan import Found
from local_stack.demo.live_lender import doubled
from local_stack.demo.live_office import LiveMifos, Office
from local_stack.demo.live_plan import plan_live
from vault_core.clock import NAIROBI
from vault_core.errors import Unreachable

TODAY = datetime.now(NAIROBI).date()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60) as client:
        yield client


@pytest.fixture(params=["sandbox", "real"] if os.environ.get("VAULT_TEST_MIFOS_URL") else ["sandbox"])
async def server(request: pytest.FixtureRequest, http: httpx.AsyncClient) -> LiveMifos:
    if request.param == "real":
        given = {name: os.environ[f"VAULT_TEST_MIFOS_{name.upper()}"] for name in ("url", "tenant", "user", "password")}
        return LiveMifos(**given)
    sandbox_url, host = request.getfixturevalue("sandbox_url"), f"o{uuid4().hex[:8]}"
    wish = {"users": [{"username": "mifos", "password": "secret"}], "payment_types": ["M-Pesa"]}
    (await http.post(f"{sandbox_url}/control/setup", json={"mifos": {host: wish}})).raise_for_status()
    return LiveMifos(f"{sandbox_url}/mifos/{host}/fineract-provider/api/v1", "default", "mifos", "secret")


@pytest.fixture
def planned():
    return plan_live(1, int(time.time() * 10), 4)


async def status_of(server: LiveMifos, http: httpx.AsyncClient, loan_id: int) -> int:
    answer = await http.get(
        f"{server.url}/loans/{loan_id}",
        auth=(server.user, server.password),
        headers={"Fineract-Platform-TenantId": server.tenant},
    )
    return answer.json()["status"]["id"]


async def test_the_office_makes_what_is_planned_and_approves_on_the_day(server, http, planned) -> None:
    office = Office(server, http)
    await office.open(planned, TODAY)
    by_hook = [loan for loan in planned.approved if loan.found is Found.HOOK]
    assert len(by_hook) == 2
    before = {loan.number: await status_of(server, http, office.id_of("loan", loan.number)) for loan in planned.loans}
    assert before == {loan.number: {Found.POLL: 200, Found.HOOK: 100, None: 300}[loan.found] for loan in planned.loans}
    await office.approve(by_hook, TODAY)
    assert [await status_of(server, http, office.id_of("loan", loan.number)) for loan in by_hook] == [200, 200]
    with pytest.raises(Unreachable, match="refused"):
        await office.approve(by_hook, TODAY)


async def test_the_books_hold_what_was_disbursed_and_nothing_else(server, http, planned) -> None:
    office = Office(server, http)
    await office.open(planned, TODAY)
    books = await office.books()
    paid = [row for loan in books["loans"].values() for row in loan["transactions"] if row["kind"] == "disbursement"]
    running = [loan.principal * 100 for loan in planned.loans if loan.found is None]
    assert sorted(row["amount_cents"] for row in paid) == sorted(running)
    assert len(books["loans"]) == len(planned.loans)
    assert len(books["savings"]) == len(planned.savings)
    assert doubled(books) == []


async def test_a_run_whose_numbers_are_taken_is_refused_and_another_is_not(server, http, planned) -> None:
    few = replace(planned, loans=(), savings=(), payments=(), clients=planned.clients[:2])
    await Office(server, http).open(few, TODAY)
    with pytest.raises(Unreachable, match="duplicate"):
        await Office(server, http).open(few, TODAY)
    later = plan_live(1, int(time.time() * 10) + 5_000, 4)
    await Office(server, http).open(replace(later, loans=(), savings=(), payments=(), clients=later.clients[:2]), TODAY)


async def test_a_wrong_password_is_told_with_the_address(server, http, planned) -> None:
    with pytest.raises(Unreachable, match=r"/currencies: 401"):
        await Office(replace(server, password="no"), http).open(planned, TODAY)


async def test_a_server_that_is_not_there_is_told_with_its_address(http, planned) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/api does not answer GET /currencies"):
        await Office(LiveMifos("http://127.0.0.1:9/api", "default", "mifos", "secret"), http).open(planned, TODAY)
