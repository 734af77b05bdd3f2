"""The servers that the Mifos X client is held against: the sandbox always, a real one when VAULT_TEST_MIFOS_URL is set.

A real one also needs VAULT_TEST_MIFOS_USER, VAULT_TEST_MIFOS_PASSWORD and VAULT_TEST_MIFOS_TENANT; the user must be a super user,
because the tests make their own clients, loans and savings accounts there. Never point it at a server with real people in it.
"""

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from vault_core.clients.mifos import MifosClient, MifosLogin
from vault_core.clock import NAIROBI

FORMAT = {"locale": "en", "dateFormat": "yyyy-MM-dd"}
_TRANCHES = {
    "multiDisburseLoan": True,
    "maxTrancheCount": 3,
    "outstandingLoanBalance": 500000,
    "disallowExpectedDisbursements": False,
    "interestCalculationPeriodType": 0,
}
RESTRICTED = ("READ_LOAN", "READ_PAYMENTTYPE")


@dataclass(frozen=True, slots=True)
class NewLoan:
    id: int
    client_id: int
    mobile_no: str
    external_id: str
    approved_on: date


class Server:
    """One Mifos X to test against, through its own interface where the two are alike."""

    def __init__(self, login: MifosLogin, http: httpx.AsyncClient) -> None:
        self.login = login
        self.http = http
        self.today = datetime.now(NAIROBI).date()
        self.client = self.as_user()

    def as_user(self, **changes: Any) -> MifosClient:
        return MifosClient(replace(self.login, **changes), self.http, write_timeout=90)

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = await self.http.request(
            method,
            f"{self.login.url}{path}",
            json=body,
            auth=(self.login.user, self.login.password),
            headers={"Fineract-Platform-TenantId": self.login.tenant},
            timeout=120,
        )
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def undo_disbursal(self, loan_id: int) -> None:
        await self.call("POST", f"/loans/{loan_id}?command=undodisbursal", {})

    async def reverse_repayment(self, loan_id: int, transaction_id: int) -> None:
        body = {"transactionDate": str(self.today), "transactionAmount": "0", **FORMAT}
        await self.call("POST", f"/loans/{loan_id}/transactions/{transaction_id}?command=undo", body)

    async def delete_hook(self, hook_id: int) -> None:
        await self.call("DELETE", f"/hooks/{hook_id}")

    async def charges_of(self, loan_id: int) -> list[int]:
        """Ids of the charges due at disbursement, the oldest first."""
        return sorted(row["id"] for row in await self.call("GET", f"/loans/{loan_id}/charges"))

    async def add_charge(self, loan_id: int, percent: int) -> None:
        """Of a loan of 6,000."""
        await self.call("POST", f"/loans/{loan_id}/charges", {**self.charge(percent), **FORMAT})

    def charge(self, percent: int) -> dict[str, Any]:
        raise NotImplementedError

    async def delete_charge(self, loan_id: int, charge_id: int) -> httpx.Response:
        auth, headers = (self.login.user, self.login.password), {"Fineract-Platform-TenantId": self.login.tenant}
        return await self.http.delete(f"{self.login.url}/loans/{loan_id}/charges/{charge_id}", auth=auth, headers=headers)

    def new_mobile(self) -> str:
        return f"07{random.randrange(10**8):08d}"


class SandboxServer(Server):
    """A host of the sandbox, filled by its control levers."""

    def __init__(self, sandbox_url: str, http: httpx.AsyncClient) -> None:
        self.host = f"h{uuid4().hex[:8]}"
        self.sandbox_url = sandbox_url
        self.next_id = 0
        url = f"{sandbox_url}/mifos/{self.host}/fineract-provider/api/v1"
        super().__init__(MifosLogin(url, "default", "mifos", "password"), http)

    async def set_up(self) -> None:
        await self.control(
            {
                "nets_top_ups": False,
                "users": [
                    {"username": "mifos", "password": "password"},
                    {"username": "clerk", "password": "clerk-pw", "permissions": list(RESTRICTED)},
                ],
                "payment_types": ["M-Pesa"],
                "products": [
                    {"id": 1, "name": "Biashara Loan", "short_name": "BIAS"},
                    {"id": 2, "name": "Shamba Tranche Loan", "short_name": "SHAM", "multi_disburse": True},
                    {"id": 3, "name": "Punctual Loan", "short_name": "PUNC", "sync_expected": True},
                ],
            }
        )

    async def control(self, wish: dict[str, Any]) -> None:
        answer = await self.http.post(f"{self.sandbox_url}/control/setup", json={"mifos": {self.host: wish}})
        assert answer.status_code == 200, answer.text

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id

    async def _person(self) -> tuple[int, str]:
        client_id, mobile = self._take_id(), self.new_mobile()
        await self.control({"clients": [{"id": client_id, "first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": mobile}]})
        return client_id, mobile

    async def approved_loan(
        self,
        shillings: int,
        *,
        fee: bool = False,
        punctual: bool = False,
        topping_up: NewLoan | None = None,
        first_repayment: date | None = None,
        approved_before: int = 1,
    ) -> NewLoan:
        """Approved and expected days ago. `punctual`: takes no other day. `topping_up`: today, and its disbursal closes that loan."""
        client_id, mobile = await self._person() if topping_up is None else (topping_up.client_id, topping_up.mobile_no)
        approved = self.today - timedelta(days=approved_before if topping_up is None else 0)
        loan_id, external_id = self._take_id(), f"loan-{uuid4()}"
        loan = {
            "id": loan_id,
            "product": 3 if punctual else 1,
            "client": client_id,
            "topup_of": None if topping_up is None else topping_up.id,
            "principal_cents": shillings * 100,
            "fee_cents": shillings * 3 if fee else 0,
            "external_id": external_id,
            "approved_on": str(approved),
            "expected_on": str(approved),
            "first_repayment_on": None if first_repayment is None else str(first_repayment),
        }
        await self.control({"loans": [loan]})
        return NewLoan(loan_id, client_id, mobile, external_id, approved)

    async def tranche_loan(self, *planned: tuple[int, date]) -> NewLoan:
        """An approved loan of these (shillings, day) tranches."""
        client_id, mobile = await self._person()
        loan_id, approved = self._take_id(), self.today - timedelta(days=1)
        loan = {
            "id": loan_id,
            "product": 2,
            "client": client_id,
            "principal_cents": sum(shillings for shillings, _ in planned) * 100,
            "approved_on": str(approved),
            "expected_on": str(planned[0][1]),
            "tranches": [{"principal_cents": shillings * 100, "expected_on": str(day)} for shillings, day in planned],
        }
        await self.control({"loans": [loan]})
        return NewLoan(loan_id, client_id, mobile, "", approved)

    async def loans_of_an_office_closed_on(self, day: date) -> tuple[int, NewLoan, NewLoan]:
        """The office; a loan that was expected on the day before that became a holiday, and one expected the day before it."""
        loans = [await self.approved_loan(6000, approved_before=(self.today - day).days + before) for before in (0, 1)]
        await self.control({"closed_days": {str(day): "holiday"}})
        return 1, loans[0], loans[1]

    def charge(self, percent: int) -> dict[str, Any]:
        return {"chargeId": 1, "amount": 60 * percent}

    async def active_savings(self) -> tuple[int, str]:
        client_id, _ = await self._person()
        savings_id = self._take_id()
        await self.control({"savings": [{"id": savings_id, "client": client_id, "external_id": f"sav-{savings_id}"}]})
        return savings_id, f"sav-{savings_id}"

    async def restricted(self) -> MifosClient:
        return self.as_user(user="clerk", password="clerk-pw")


class RealServer(Server):
    """A real Apache Fineract, filled through its own interface."""

    _fee: int
    _products: dict[bool, int]
    _in_tranches: int
    _punctual: int
    _topping_up: int
    _office = 1

    async def set_up(self) -> None:
        currencies = [row["code"] for row in (await self.call("GET", "/currencies"))["selectedCurrencyOptions"]]
        if "KES" not in currencies:
            await self.call("PUT", "/currencies", {"currencies": [*currencies, "KES"]})
        if not any(row["name"] == "M-Pesa" for row in await self.call("GET", "/paymenttypes")):
            await self.client.create_payment_type("M-Pesa")
        fee = self._named(await self.call("GET", "/charges"), "Vault test fee 3%") or await self._make_fee()
        products = await self.call("GET", "/loanproducts")
        plain = self._named(products, "Vault Test Loan") or await self._make_product("Vault Test Loan", "VTLN", [])
        charged = self._named(products, "Vault Test Fee Loan") or await self._make_product("Vault Test Fee Loan", "VTFL", [fee])
        self._fee = fee
        self._products = {False: plain, True: charged}
        self._in_tranches = self._named(products, "Vault Test Tranches") or await self._make_product(
            "Vault Test Tranches", "VTTR", [], **_TRANCHES
        )
        self._punctual = self._named(products, "Vault Test Punctual") or await self._make_product(
            "Vault Test Punctual", "VTPU", [], syncExpectedWithDisbursementDate=True
        )
        self._topping_up = self._named(products, "Vault Test Top-up") or await self._make_product(
            "Vault Test Top-up", "VTTU", [], canUseForTopup=True
        )

    @staticmethod
    def _named(rows: list[dict[str, Any]], name: str) -> int | None:
        return next((row["id"] for row in rows if row["name"] == name), None)

    async def _make_fee(self) -> int:
        body = {"name": "Vault test fee 3%", "chargeAppliesTo": 1, "currencyCode": "KES", "amount": 3, "chargeTimeType": 1}
        more = {"chargeCalculationType": 2, "chargePaymentMode": 0, "active": True, "penalty": False, "locale": "en"}
        return (await self.call("POST", "/charges", {**body, **more}))["resourceId"]

    async def _make_product(self, name: str, short: str, charges: list[int], **more: Any) -> int:
        body = {
            "name": name,
            "shortName": short,
            "currencyCode": "KES",
            "digitsAfterDecimal": 2,
            "inMultiplesOf": 1,
            "principal": 15000,
            "minPrincipal": 100,
            "maxPrincipal": 500000,
            "numberOfRepayments": 3,
            "interestRateFrequencyType": 2,
            "accountingRule": 1,
            "daysInYearType": 1,
            "daysInMonthType": 1,
            "isInterestRecalculationEnabled": False,
            "charges": [{"id": charge} for charge in charges],
        }
        return (await self.call("POST", "/loanproducts", {**body, **self._terms(), **more}))["resourceId"]

    @staticmethod
    def _terms() -> dict[str, Any]:
        terms = {"repaymentEvery": 1, "repaymentFrequencyType": 2, "interestRatePerPeriod": 2.5, "amortizationType": 1}
        schedule = {
            "interestType": 0,
            "interestCalculationPeriodType": 1,
            "transactionProcessingStrategyCode": "mifos-standard-strategy",
        }
        return {**terms, **schedule, **FORMAT}

    async def loans_of_an_office_closed_on(self, day: date) -> tuple[int, NewLoan, NewLoan]:
        """The office; a loan that was expected on the day before that became a holiday, and one expected the day before it."""
        name = uuid4().hex[:8]
        opened = {"name": f"Branch {name}", "openingDate": str(day - timedelta(days=90)), "parentId": 1, **FORMAT}
        self._office = (await self.call("POST", "/offices", opened))["officeId"]
        loans = [await self.approved_loan(6000, approved_before=(self.today - day).days + before) for before in (0, 1)]
        for on, in_force in ((day, True), (self.today, False)):
            days = {"fromDate": str(on), "toDate": str(on), "reschedulingType": 1, "offices": [{"officeId": self._office}]}
            body = {"name": f"Holiday {name} {on}", "description": "test", **days, **FORMAT}
            holiday = (await self.call("POST", "/holidays", body))["resourceId"]
            if in_force:
                await self.call("POST", f"/holidays/{holiday}?command=activate", {})
        return self._office, loans[0], loans[1]

    async def _person(self) -> tuple[int, str]:
        mobile, day = self.new_mobile(), self.today - timedelta(days=30)
        body = {
            "officeId": self._office,
            "legalFormId": 1,
            "firstname": "Wanjiku",
            "lastname": "Kamau",
            "mobileNo": mobile,
            "active": True,
        }
        more = {"activationDate": str(day), "submittedOnDate": str(day), **FORMAT}
        return (await self.call("POST", "/clients", {**body, **more}))["clientId"], mobile

    async def approved_loan(
        self,
        shillings: int,
        *,
        fee: bool = False,
        punctual: bool = False,
        topping_up: NewLoan | None = None,
        first_repayment: date | None = None,
        approved_before: int = 1,
    ) -> NewLoan:
        # a top-up is asked for after the older one's disbursal
        day = self.today - timedelta(days=approved_before if topping_up is None else 0)
        client_id, mobile = await self._person() if topping_up is None else (topping_up.client_id, topping_up.mobile_no)
        product = self._punctual if punctual else self._products[fee] if topping_up is None else self._topping_up
        external_id = f"loan-{uuid4()}"
        body = {
            "clientId": client_id,
            "productId": product,
            "loanType": "individual",
            "principal": shillings,
            "loanTermFrequency": 3,
            "loanTermFrequencyType": 2,
            "numberOfRepayments": 3,
            "expectedDisbursementDate": str(day),
            "submittedOnDate": str(day),
            "externalId": external_id,
            "charges": [{"chargeId": self._fee, "amount": 3}] if fee else [],
            **({} if topping_up is None else {"isTopup": True, "loanIdToClose": topping_up.id}),
            **({} if first_repayment is None else {"repaymentsStartingFromDate": str(first_repayment)}),
        }
        loan_id = (await self.call("POST", "/loans", {**body, **self._terms()}))["loanId"]
        approval = {"approvedOnDate": str(day), "approvedLoanAmount": shillings, "expectedDisbursementDate": str(day), **FORMAT}
        await self.call("POST", f"/loans/{loan_id}?command=approve", approval)
        return NewLoan(loan_id, client_id, mobile, external_id, day)

    async def tranche_loan(self, *planned: tuple[int, date]) -> NewLoan:
        """An approved loan of these (shillings, day) tranches."""
        day = self.today - timedelta(days=1)
        client_id, mobile = await self._person()
        external_id, shillings = f"loan-{uuid4()}", sum(each for each, _ in planned)
        tranches = [{"expectedDisbursementDate": str(on), "principal": each} for each, on in planned]
        body = {
            "clientId": client_id,
            "productId": self._in_tranches,
            "loanType": "individual",
            "principal": shillings,
            "loanTermFrequency": 3,
            "loanTermFrequencyType": 2,
            "numberOfRepayments": 3,
            "expectedDisbursementDate": str(planned[0][1]),
            "submittedOnDate": str(day),
            "externalId": external_id,
            "maxOutstandingLoanBalance": 500000,
            "disbursementData": tranches,
        }
        loan_id = (await self.call("POST", "/loans", {**body, **self._terms(), "interestCalculationPeriodType": 0}))["loanId"]
        approval = {"approvedOnDate": str(day), "approvedLoanAmount": shillings, "expectedDisbursementDate": str(planned[0][1])}
        await self.call("POST", f"/loans/{loan_id}?command=approve", {**approval, "disbursementData": tranches, **FORMAT})
        return NewLoan(loan_id, client_id, mobile, external_id, day)

    def charge(self, percent: int) -> dict[str, Any]:
        return {"chargeId": self._fee, "amount": percent}

    async def active_savings(self) -> tuple[int, str]:
        day = self.today - timedelta(days=1)
        client_id, _ = await self._person()
        product = (
            self._named(await self.call("GET", "/savingsproducts"), "Vault Test Savings") or await self._make_savings_product()
        )
        external_id = f"sav-{uuid4().hex[:12]}"
        body = {"clientId": client_id, "productId": product, "submittedOnDate": str(day), "externalId": external_id, **FORMAT}
        savings_id = (await self.call("POST", "/savingsaccounts", body))["savingsId"]
        await self.call("POST", f"/savingsaccounts/{savings_id}?command=approve", {"approvedOnDate": str(day), **FORMAT})
        await self.call("POST", f"/savingsaccounts/{savings_id}?command=activate", {"activatedOnDate": str(day), **FORMAT})
        return savings_id, external_id

    async def _make_savings_product(self) -> int:
        body = {
            "name": "Vault Test Savings",
            "shortName": "VTSV",
            "currencyCode": "KES",
            "digitsAfterDecimal": 2,
            "inMultiplesOf": 1,
        }
        interest = {"nominalAnnualInterestRate": 3, "interestCompoundingPeriodType": 1, "interestPostingPeriodType": 4}
        more = {"interestCalculationType": 1, "interestCalculationDaysInYearType": 365, "accountingRule": 1, "locale": "en"}
        return (await self.call("POST", "/savingsproducts", {**body, **interest, **more}))["resourceId"]

    async def restricted(self) -> MifosClient:
        name = f"clerk{uuid4().hex[:8]}"
        password = f"Aa1!{uuid4().hex}"
        role = (await self.call("POST", "/roles", {"name": name, "description": "test"}))["resourceId"]
        await self.call("PUT", f"/roles/{role}/permissions", {"permissions": dict.fromkeys(RESTRICTED, True)})
        person = {"username": name, "firstname": "A", "lastname": "Clerk", "email": f"{name}@example.com", "officeId": 1}
        secret = {"roles": [role], "sendPasswordToEmail": False, "password": password, "repeatPassword": password}
        await self.call("POST", "/users", {**person, **secret})
        return self.as_user(user=name, password=password)


def _real_login() -> MifosLogin:
    url = os.environ["VAULT_TEST_MIFOS_URL"]
    settings = {name: os.environ.get(f"VAULT_TEST_MIFOS_{name.upper()}") for name in ("tenant", "user", "password")}
    missing = [name for name, value in settings.items() if not value]
    assert not missing, (
        f"VAULT_TEST_MIFOS_URL is set, but {', '.join(f'VAULT_TEST_MIFOS_{name.upper()}' for name in missing)} is not"
    )
    return MifosLogin(url.rstrip("/"), settings["tenant"], settings["user"], settings["password"])


@pytest.fixture(params=["sandbox", "real"] if os.environ.get("VAULT_TEST_MIFOS_URL") else ["sandbox"])
async def mifos(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A Mifos X with a payment type and products, where the test may make people and accounts."""
    async with httpx.AsyncClient(timeout=60) as http:
        if request.param == "sandbox":
            server: Any = SandboxServer(request.getfixturevalue("sandbox_url"), http)
        else:
            server = RealServer(_real_login(), http)
        await server.set_up()
        yield server
        await server.client.aclose()
