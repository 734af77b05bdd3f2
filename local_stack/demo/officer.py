"""A loan officer of a lender, at work in its Mifos X over HTTP: what the product has no part in and has to find out."""

from datetime import date
from typing import Any

import httpx

from local_stack.demo.world import MIFOS_PASSWORD, OFFICER
from vault_core.errors import Unreachable

_FORMAT = {"locale": "en", "dateFormat": "yyyy-MM-dd"}
_PAYMENT_TYPE = "M-Pesa"


class Officer:
    """The officer. All methods raise Unreachable with the server's words when it does not do what it is told."""

    def __init__(self, sandbox_url: str, host: str, http: httpx.AsyncClient) -> None:
        self._url, self._http = f"{sandbox_url}/mifos/{host}/fineract-provider/api/v1", http

    async def correct_number(self, client: int, number: str) -> None:
        """Writes the client's mobile number."""
        await self._call("PUT", f"/clients/{client}", {"mobileNo": number})

    async def undo_disbursal(self, loan: int, why: str) -> None:
        """Takes the disbursal back: the loan is approved again."""
        await self._call("POST", f"/loans/{loan}?command=undodisbursal", {"note": why})

    async def disburse_by_hand(self, loan: int, shillings: int, day: date, receipt: str) -> None:
        """Books a disbursal whose money has gone out already, with its M-Pesa receipt."""
        types = await self._call("GET", "/paymenttypes")
        kind = next(each["id"] for each in types if each["name"] == _PAYMENT_TYPE)
        paid = {
            "actualDisbursementDate": str(day),
            "transactionAmount": shillings,
            "paymentTypeId": kind,
            "receiptNumber": receipt,
        }
        await self._call("POST", f"/loans/{loan}?command=disburse", {**paid, **_FORMAT})

    async def approve_what_waits(self, loan: int) -> None:
        """As the checker: approves the command about the loan that somebody else made."""
        waiting = await self._call("GET", "/makercheckers")
        command = next(each["id"] for each in waiting if each["loanId"] == loan)
        await self._call("POST", f"/makercheckers/{command}?command=approve", {})

    async def take_repayment(self, loan: int, shillings: int, day: date) -> None:
        """Books a repayment that was made at the counter."""
        paid = {"transactionDate": str(day), "transactionAmount": shillings, **_FORMAT}
        await self._call("POST", f"/loans/{loan}/transactions?command=repayment", paid)

    async def undo_repayment(self, loan: int, receipt: str, day: date) -> None:
        """Takes back the repayment of a loan that bears an M-Pesa receipt."""
        rows = (await self._call("GET", f"/loans/{loan}?associations=transactions"))["transactions"]
        wanted = next(row["id"] for row in rows if (row.get("paymentDetailData") or {}).get("receiptNumber") == receipt)
        body = {"transactionDate": str(day), "transactionAmount": 0, **_FORMAT}
        await self._call("POST", f"/loans/{loan}/transactions/{wanted}?command=undo", body)

    async def take_deposit(self, savings: int, shillings: int, day: date) -> int:
        """Books a deposit that was made at the counter; the transaction's id."""
        kind = (await self._call("GET", "/paymenttypes"))[0]["id"]
        paid = {"transactionDate": str(day), "transactionAmount": shillings, "paymentTypeId": kind, **_FORMAT}
        answer = await self._call("POST", f"/savingsaccounts/{savings}/transactions?command=deposit", paid)
        return int(answer["resourceId"])

    async def undo_deposit(self, savings: int, transaction: int, day: date) -> None:
        """Takes a deposit back."""
        body = {"transactionDate": str(day), "transactionAmount": 0, **_FORMAT}
        await self._call("POST", f"/savingsaccounts/{savings}/transactions/{transaction}?command=undo", body)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        who = (OFFICER, MIFOS_PASSWORD)
        headers = {"Fineract-Platform-TenantId": "default"}
        try:
            answer = await self._http.request(method, f"{self._url}{path}", json=body, auth=who, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"Mifos X does not answer {method} {self._url}{path}: {error}") from error
        if answer.is_error:
            raise Unreachable(f"Mifos X refused {method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer.json()
