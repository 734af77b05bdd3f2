"""Each cause that holds a loan: the loan waits as long as it lasts, and goes on by itself once it is gone."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_unposted_loans import by_hand, command
from vault_core.clients.mifos import ApprovedLoan, LoanPage, MifosClient, MifosPerson
from vault_core.clock import business_day
from vault_core.money import Money
from vault_core.partners.products import Limits, enable_product


async def approved_anew(day: Day, shillings: int) -> None:
    """An officer undoes the approval and gives it for another amount."""
    await command(day, "undoapproval")
    today = business_day(day.clock.now()).isoformat()
    await command(day, "approve", approvedOnDate=today, approvedLoanAmount=str(shillings))


async def stays_held(day: Day, held_for: str, what_to_do: str) -> None:
    """However often it is looked at, and says what to do."""
    await day.send()
    for _ in range(2):
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", held_for)
        assert what_to_do in row["reason"]
        day.clock.pass_time(minutes=6)
        await day.poll()
        assert await day.review() == 0
        assert (await day.send()).accepted == 0
    assert await day.payments() == []


async def goes_on(day: Day, cents: int = 1_500_000) -> None:
    day.clock.pass_time(minutes=6)
    await day.poll()
    await day.review()
    report = await day.send()
    assert report.accepted == 1, (await day.loan_row(1))["reason"]
    (payment,) = await day.payments()
    assert payment["amount_cents"] == cents


@pytest.mark.parametrize(
    ("cents", "held_for", "what_to_do"),
    [
        (1_500_050, "cents", "add a charge of KES 0.50"),
        (40_000, "product_limit", "change the limit or the loan"),
        (20_000_100, "product_limit", "change the limit or the loan"),
    ],
)
async def test_an_amount_that_is_corrected_in_mifos_x(open_day, cents: int, held_for: str, what_to_do: str) -> None:
    async with open_day([loan(1, cents)]) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, held_for, what_to_do)
        await approved_anew(day, 15_000)
        await goes_on(day)


@pytest.mark.parametrize("cents", [40_000, 20_000_100])
async def test_a_limit_of_the_product_that_is_changed(open_day, cents: int) -> None:
    async with open_day([loan(1, cents // 100 * 100)]) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "product_limit", "change the limit or the loan")
        limits = Limits(Money.shillings(100), Money.shillings(250_000), None)
        await enable_product(day.runtime, day.partner, "1", limits, actor="ops:test")
        await goes_on(day, cents // 100 * 100)


async def test_a_payout_below_what_m_pesa_pays(open_day) -> None:
    async with open_day([loan(1, 60_000, fee_cents=59_500)]) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "mpesa_limit", "disburse it by hand")
        await approved_anew(day, 15_000)
        await goes_on(day, 1_500_000 - 59_500)


@pytest.mark.parametrize("number", ["12345", "", "+255712345678"])
async def test_a_number_that_is_corrected(open_day, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    async def corrected(_self: MifosClient, client_id: int) -> MifosPerson:
        return MifosPerson(client_id, "Wanjiku", "0712345678")

    async with open_day([loan(1)], [client(1, number)]) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "bad_phone", "correct it in Mifos X")
        monkeypatch.setattr(MifosClient, "client", corrected)
        await goes_on(day)


async def test_a_currency_that_is_corrected(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1)]) as day, changed_loans(monkeypatch, currency="USD") as undo:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "currency", "disburse it by hand")
        undo()
        await goes_on(day)


async def test_a_net_amount_above_the_principal_is_not_paid_until_it_is_corrected(open_day, monkeypatch) -> None:
    async with open_day([loan(1)]) as day, changed_loans(monkeypatch, net_disbursal=Money.shillings(16_000)) as undo:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "not_approved", "correct the loan there")
        undo()
        await goes_on(day)


async def test_a_product_that_is_no_longer_active_in_mifos_x_and_is_again(open_day) -> None:
    def product(*, active: bool) -> dict[str, Any]:
        return {"mifos": {"alpha": {"products": [{"id": 1, "name": "Biashara Loan", "short_name": "BIAS", "active": active}]}}}

    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.control("setup", product(active=False))
        await day.poll()
        await stays_held(day, "product_disabled", "activate it there")
        await day.control("setup", product(active=True))
        await goes_on(day)


async def test_an_approval_that_is_taken_back_and_given_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await command(day, "undoapproval")
        assert (await day.send()).not_sent == 1
        await stays_held(day, "not_approved", "approve it there")
        today = business_day(day.clock.now()).isoformat()
        await command(day, "approve", approvedOnDate=today, approvedLoanAmount="15000")
        await goes_on(day)


async def test_a_loan_approved_anew_for_less_before_it_is_paid_is_paid_and_posted_as_approved_last(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await approved_anew(day, 9_000)
        assert (await day.send()).not_sent == 1  # what was to be paid is no longer so
        await goes_on(day, 900_000)
        await day.hear("b2c_result")
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert await day.balance("loan_book") == 900_000


async def test_a_group_loan_is_never_paid_and_rests_once_it_was_disbursed_by_hand(open_day) -> None:
    entry = {key: value for key, value in loan(1, group_name="Umoja Group").items() if key != "client"}
    async with open_day([entry], [client(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await stays_held(day, "group_loan", "disburse it by hand in Mifos X")
        await by_hand(day, None)
        day.clock.pass_time(minutes=6)
        assert await day.review() == 0
        row = await day.loan_row(1)
        assert (row["held_for"], "status 300" in row["reason"]) == ("not_approved", True)
        assert await day.payments() == []


class changed_loans:  # noqa: N801 - used as a function
    """While it lasts, Mifos X shows each loan with these changes, alone and in lists; what it gives ends that."""

    def __init__(self, patch: pytest.MonkeyPatch, **changes: Any) -> None:
        self._stack = ExitStack()
        self._patch, self._changes = patch, changes

    async def __aenter__(self) -> Callable[[], None]:
        one, several, changes = MifosClient.loan, MifosClient.approved_loans, self._changes
        context = self._stack.enter_context(self._patch.context())

        async def loan_(self: MifosClient, loan_id: int) -> ApprovedLoan:
            return replace(await one(self, loan_id), **changes)

        async def page(self: MifosClient, capabilities: Any, *, offset: int, limit: int = 100) -> LoanPage:
            found = await several(self, capabilities, offset=offset, limit=limit)
            return replace(found, loans=[replace(each, **changes) for each in found.loans])

        context.setattr(MifosClient, "loan", loan_)
        context.setattr(MifosClient, "approved_loans", page)
        return self._stack.close

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()


async def charge(day: Day, method: str, path: str = "", **body: Any) -> Any:
    answer = await day.runtime.http.request(
        method,
        f"{day.partner.mifos_url}/loans/1/charges{path}",
        json={"locale": "en", **body},
        auth=("mifos", "password"),
        headers={"Fineract-Platform-TenantId": "default"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_charge_added_after_the_loan_was_found_is_not_paid_out(open_day) -> None:
    async with open_day([loan(1, fee_cents=45_000)]) as day:
        await day.fund(1000)
        await day.poll()
        await charge(day, "POST", chargeId=1, amount="100")
        assert (await day.send()).not_sent == 1
        await day.review()
        assert (await day.send()).accepted == 1
        assert [each["amount_cents"] for each in await day.payments()] == [1_500_000 - 45_000 - 10_000]
        await day.hear("b2c_result")
        await day.post()
        assert await day.states() == {1: "disbursed"}
        assert (await day.truth())["mifos"]["alpha"]["loans"]["1"]["net_cents"] == 1_445_000


async def test_a_charge_taken_off_with_a_new_approval_after_the_loan_was_found_is_paid_out(open_day) -> None:
    async with open_day([loan(1, fee_cents=45_000)]) as day:
        await day.fund(1000)
        await day.poll()
        (fee,) = await charge(day, "GET")
        await command(day, "undoapproval")
        await charge(day, "DELETE", f"/{fee['id']}")
        await command(day, "approve", approvedOnDate=(await day.loan_row(1))["approved_on"].isoformat())
        assert (await day.send()).not_sent == 1
        await day.review()
        assert (await day.send()).accepted == 1
        assert [each["amount_cents"] for each in await day.payments()] == [1_500_000]
