"""The office of the lender whose Mifos X is a running server: it makes people and accounts there and approves loans, over HTTP.

Nothing here uses the product's client: what the product did is read afterwards from the server itself (`books`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import httpx

from local_stack.demo.day_plan import PlannedClient, PlannedLoan, PlannedPartner, PlannedSavings
from vault_core.errors import Unreachable

T = TypeVar("T")

_AT_ONCE = 4  # a Fineract of two cores does not get faster with more
_PATIENCE = 120.0
_FORMAT = {"locale": "en", "dateFormat": "yyyy-MM-dd"}
_TERMS: dict[str, Any] = {
    "numberOfRepayments": 3,
    "repaymentEvery": 1,
    "repaymentFrequencyType": 2,
    "interestRatePerPeriod": 2.5,
    "amortizationType": 1,
    "interestType": 0,
    "interestCalculationPeriodType": 1,
    "transactionProcessingStrategyCode": "mifos-standard-strategy",
}
_FEE = "Vault demo fee"
_SAVINGS = "Vault Demo Savings"
_BEFORE = timedelta(days=30)  # running loans were disbursed, and people became clients, this long before the day


@dataclass(frozen=True, slots=True)
class LiveMifos:
    """A running Mifos X for tests, its super user, and the command that kills and restarts it (None: it is left in peace)."""

    url: str
    tenant: str
    user: str
    password: str = field(repr=False)
    loans: int = 200
    restart: str | None = None


class Office:
    """The office. All methods raise Unreachable with the server's words when it does not do what it is told."""

    def __init__(self, server: LiveMifos, http: httpx.AsyncClient) -> None:
        self._server, self._http = server, http
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._loans: dict[int, int] = {}  # planned number -> id there
        self._savings: dict[int, int] = {}
        self._clients: dict[int, int] = {}
        self._account_nos: dict[tuple[str, int], str] = {}

    async def open(self, partner: PlannedPartner, day: date) -> None:
        """Makes the planned product, clients, loans and savings accounts; approves and disburses those that are so by plan."""
        currencies = [row["code"] for row in (await self._call("GET", "/currencies"))["selectedCurrencyOptions"]]
        if "KES" not in currencies:
            await self._call("PUT", "/currencies", {"currencies": [*currencies, "KES"]})
        fee = _named(await self._call("GET", "/charges"), _FEE) or await self._make_fee()
        (name,) = partner.products
        product = await self._make_product(name)
        opened = day - 2 * _BEFORE
        await self._each(partner.clients, lambda client: self._make_client(partner, client, opened))
        await self._each(partner.loans, lambda loan: self._make_loan(partner, loan, product, fee, day))
        if partner.savings:
            savings = _named(await self._call("GET", "/savingsproducts"), _SAVINGS) or await self._make_savings_product()
            await self._each(partner.savings, lambda account: self._make_savings(partner, account, savings, day - _BEFORE))

    async def approve(self, loans: Iterable[PlannedLoan], day: date) -> None:
        """Approves loans that were applied for, at their full amount."""
        await self._each(loans, lambda loan: self._approve(self._loans[loan.number], loan.principal, day))

    def id_of(self, kind: str, number: int) -> int:
        """The id there of the loan or savings account that the plan numbers so."""
        return (self._loans if kind == "loan" else self._savings)[number]

    def account_no(self, kind: str, number: int) -> str:
        """The number there of the loan or savings account that the plan numbers so."""
        return self._account_nos[kind, number]

    async def owed(self, loan: int) -> Decimal:
        """What is owed on a loan, in shillings."""
        answer = await self._call("GET", f"/loans/{self._loans[loan]}")
        return Decimal(str(answer["summary"]["totalOutstanding"]))

    async def take_cash(self, kind: str, number: int, shillings: Decimal, day: date) -> int:
        """A cashier books a repayment or a deposit that was made at the counter; the transaction's id."""
        body: dict[str, Any] = {"transactionDate": str(day), "transactionAmount": str(shillings), **_FORMAT}
        if kind == "loan":
            path = f"/loans/{self._loans[number]}/transactions?command=repayment"
        else:
            path = f"/savingsaccounts/{self._savings[number]}/transactions?command=deposit"
            body["paymentTypeId"] = (await self._call("GET", "/paymenttypes"))[0]["id"]
        return int((await self._call("POST", path, body))["resourceId"])

    async def undo(self, kind: str, number: int, transaction: int, day: date) -> None:
        """An officer takes a repayment or a deposit back."""
        account = f"/loans/{self._loans[number]}" if kind == "loan" else f"/savingsaccounts/{self._savings[number]}"
        body = {"transactionDate": str(day), "transactionAmount": 0, **_FORMAT}
        await self._call("POST", f"{account}/transactions/{transaction}?command=undo", body)

    async def transaction_of(self, loan: int, receipt: str) -> int:
        """The id of the standing transaction of a loan that bears an M-Pesa receipt."""
        rows = await self._transactions(f"/loans/{self._loans[loan]}")
        return next(int(row["id"]) for row in rows if row["receipt"] == receipt and not row["reversed"])

    async def books(self) -> dict[str, Any]:
        """What stands on the accounts that this office made, in the shape of a host in the sandbox's truth."""
        loans = await self._each(self._loans.values(), lambda number: self._transactions(f"/loans/{number}"))
        savings = await self._each(self._savings.values(), lambda number: self._transactions(f"/savingsaccounts/{number}"))
        return {
            "loans": {number: {"transactions": rows} for number, rows in zip(self._loans.values(), loans, strict=True)},
            "savings": {number: {"transactions": rows} for number, rows in zip(self._savings.values(), savings, strict=True)},
        }

    async def take_down_hooks(self, base: str) -> int:
        """Deletes the web hooks that lead to addresses under `base`; returns how many there were."""
        gone = 0
        for hook in await self._call("GET", "/hooks"):
            url = next((item["fieldValue"] for item in hook["config"] if item["fieldName"] == "Payload URL"), "")
            if url.startswith(base):
                await self._call("DELETE", f"/hooks/{hook['id']}")
                gone += 1
        return gone

    async def _transactions(self, path: str) -> list[dict[str, Any]]:
        account = await self._call("GET", f"{path}?associations=transactions")
        return [_movement(row) for row in account.get("transactions", ())]

    async def _make_fee(self) -> int:
        body = {"name": _FEE, "chargeAppliesTo": 1, "currencyCode": "KES", "amount": 1, "chargeTimeType": 1}
        more = {"chargeCalculationType": 1, "chargePaymentMode": 0, "active": True, "penalty": False, "locale": "en"}
        return int((await self._call("POST", "/charges", {**body, **more}))["resourceId"])

    async def _make_product(self, name: str) -> int:
        body = {
            "name": name,
            "shortName": name[-4:],
            "currencyCode": "KES",
            "digitsAfterDecimal": 2,
            "inMultiplesOf": 1,
            "principal": 15_000,
            "minPrincipal": 100,
            "maxPrincipal": 500_000,
            "interestRateFrequencyType": 2,
            "accountingRule": 1,
            "daysInYearType": 1,
            "daysInMonthType": 1,
            "isInterestRecalculationEnabled": False,
        }
        return int((await self._call("POST", "/loanproducts", {**body, **_TERMS, **_FORMAT}))["resourceId"])

    async def _make_savings_product(self) -> int:
        body = {"name": _SAVINGS, "shortName": "VDSV", "currencyCode": "KES", "digitsAfterDecimal": 2, "inMultiplesOf": 1}
        interest = {"nominalAnnualInterestRate": 3, "interestCompoundingPeriodType": 1, "interestPostingPeriodType": 4}
        more = {"interestCalculationType": 1, "interestCalculationDaysInYearType": 365, "accountingRule": 1, "locale": "en"}
        return int((await self._call("POST", "/savingsproducts", {**body, **interest, **more}))["resourceId"])

    async def _make_client(self, partner: PlannedPartner, client: PlannedClient, opened: date) -> None:
        first, last = client.name.split()
        body = {"officeId": 1, "legalFormId": 1, "firstname": first, "lastname": last, "mobileNo": client.phone, "active": True}
        dates = {"activationDate": str(opened), "submittedOnDate": str(opened), **_FORMAT}
        more = {"externalId": partner.external_id("client", client.number)}
        self._clients[client.number] = (await self._call("POST", "/clients", {**body, **more, **dates}))["clientId"]

    async def _make_loan(self, partner: PlannedPartner, loan: PlannedLoan, product: int, fee: int, day: date) -> None:
        on = day if loan.found is not None else day - _BEFORE
        body = {
            "clientId": self._clients[loan.client],
            "productId": product,
            "loanType": "individual",
            "principal": loan.principal,
            "loanTermFrequency": 3,
            "loanTermFrequencyType": 2,
            "expectedDisbursementDate": str(on),
            "submittedOnDate": str(on),
            "externalId": partner.external_id("loan", loan.number),
            "charges": [{"chargeId": fee, "amount": loan.fee_at_disbursement}] if loan.fee_at_disbursement else [],
        }
        number = self._loans[loan.number] = (await self._call("POST", "/loans", {**body, **_TERMS, **_FORMAT}))["loanId"]
        if loan.approved_before:
            await self._approve(number, loan.principal, on)
        if loan.found is None:
            paid = {"actualDisbursementDate": str(on), "transactionAmount": loan.principal, **_FORMAT}
            await self._call("POST", f"/loans/{number}?command=disburse", paid)
            self._account_nos["loan", loan.number] = (await self._call("GET", f"/loans/{number}"))["accountNo"]

    async def _approve(self, number: int, amount: int, day: date) -> None:
        body = {"approvedOnDate": str(day), "approvedLoanAmount": amount, "expectedDisbursementDate": str(day), **_FORMAT}
        await self._call("POST", f"/loans/{number}?command=approve", body)

    async def _make_savings(self, partner: PlannedPartner, account: PlannedSavings, product: int, day: date) -> None:
        body = {"clientId": self._clients[account.client], "productId": product, "submittedOnDate": str(day), **_FORMAT}
        more = {"externalId": partner.external_id("savings", account.number)}
        number = self._savings[account.number] = (await self._call("POST", "/savingsaccounts", {**body, **more}))["savingsId"]
        await self._call("POST", f"/savingsaccounts/{number}?command=approve", {"approvedOnDate": str(day), **_FORMAT})
        await self._call("POST", f"/savingsaccounts/{number}?command=activate", {"activatedOnDate": str(day), **_FORMAT})
        self._account_nos["savings", account.number] = (await self._call("GET", f"/savingsaccounts/{number}"))["accountNo"]

    async def _each(self, things: Iterable[Any], do: Callable[[Any], Awaitable[T]]) -> list[T]:
        async def one(thing: Any) -> T:
            async with self._turns:
                return await do(thing)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(thing)) for thing in things]
        except* Unreachable as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        server = self._server
        try:
            answer = await self._http.request(
                method,
                f"{server.url}{path}",
                json=body,
                auth=(server.user, server.password),
                headers={"Fineract-Platform-TenantId": server.tenant},
                timeout=_PATIENCE,
            )
        except httpx.HTTPError as error:
            raise Unreachable(
                f"Mifos X at {server.url} does not answer {method} {path}: {type(error).__name__} {error}"
            ) from error
        if answer.is_error:
            raise Unreachable(f"Mifos X at {server.url} refused {method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer.json()


def _named(rows: Iterable[dict[str, Any]], name: str) -> int | None:
    return next((row["id"] for row in rows if row["name"] == name), None)


def _movement(row: dict[str, Any]) -> dict[str, Any]:
    kind = row.get("type") or row.get("transactionType") or {}
    what = "disbursement" if kind.get("disbursement") else "repayment" if kind.get("repayment") else "other"
    return {
        "id": row["id"],
        "kind": "deposit" if kind.get("deposit") else what,
        "amount_cents": int(Decimal(str(row["amount"])) * 100),
        "receipt": (row.get("paymentDetailData") or {}).get("receiptNumber") or None,
        "reversed": bool(row.get("manuallyReversed") or row.get("reversed") or row.get("reversedOnDate")),
    }
