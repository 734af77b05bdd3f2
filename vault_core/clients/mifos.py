"""The Mifos X (Apache Fineract) client: one partner's server, read and written over its REST interface."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from vault_core.clients import mifos_reading as reading
from vault_core.clients.http_exchange import Answer, NotSent
from vault_core.clients.json_reading import whole_number
from vault_core.clients.mifos_errors import NOT_SENT, NotThere, classify_write
from vault_core.clients.mifos_probe import find_capabilities
from vault_core.clients.mifos_session import MifosSession
from vault_core.clients.mifos_values import (
    ApprovedLoan,
    CoreWrite,
    FoundAccount,
    LoanPage,
    LoanProduct,
    LoanTransaction,
    MifosCapabilities,
    MifosHook,
    MifosLogin,
    MifosPerson,
    PaymentType,
    PlannedTranche,
    Posted,
    SavingsAccount,
)
from vault_core.errors import InvalidInput, NotFound, NotUnderstood, RemoteRefusal
from vault_core.outcome import Outcome, Refusal, Refused, Unknown

__all__ = [
    "ApprovedLoan",
    "CoreWrite",
    "FoundAccount",
    "LoanPage",
    "LoanProduct",
    "LoanTransaction",
    "MifosCapabilities",
    "MifosClient",
    "MifosHook",
    "MifosLogin",
    "MifosPerson",
    "PaymentType",
    "PlannedTranche",
    "Posted",
    "SavingsAccount",
]

T = TypeVar("T")

_HOOK_EVENTS = (("LOAN", "APPROVE"), ("LOAN", "APPROVALUNDO"), ("LOAN", "DISBURSALUNDO"))
_SEARCHABLE = re.compile(r"[A-Za-z0-9-]{1,100}")  # a % or _ would be a wildcard in the server's LIKE
_FORBIDDEN = 403
_FORMAT = {"locale": "en", "dateFormat": "yyyy-MM-dd"}


class MifosClient:
    """One partner's Mifos X.

    Reads are tried up to three times while the server is unreachable or busy, then raise Unreachable or RemoteBusy; they also
    raise LoginRefused, RemoteRefusal (`code` is the server's), NotFound and NotUnderstood. Writes are sent once and return an
    Outcome; `write_timeout` (seconds) should be 60 or more, because a write may run the close-of-business of its loan first.
    """

    def __init__(self, login: MifosLogin, http: httpx.AsyncClient, *, write_timeout: float, read_timeout: float = 60.0) -> None:
        self._session = MifosSession(login, http, read_timeout=read_timeout, write_timeout=write_timeout)

    async def aclose(self) -> None:
        """Closes connections of its own; the shared pool stays open."""
        await self._session.aclose()

    async def log_in(self) -> None:
        """Proves address, tenant, user and password. Raises what a read raises; LoginRefused for the last three."""
        await self.payment_types()

    async def probe(self) -> MifosCapabilities:
        """What this server can do, found by asking it; posts nothing (vault_core/clients/mifos_probe.py)."""
        return await find_capabilities(self._session)

    async def loan_products(self) -> list[LoanProduct]:
        """All loan products, closed ones too."""
        return await self._read("/loanproducts", reading.read_products)

    async def payment_types(self) -> list[PaymentType]:
        """All payment types."""
        return await self._read("/paymenttypes", reading.read_payment_types)

    async def create_payment_type(self, name: str) -> int:
        """Makes a payment type that is not cash and returns its id."""
        body = {"name": name, "description": name, "isCashPayment": False, "position": 1}
        return self._made(await self._session.create("/paymenttypes", body), "POST /paymenttypes")

    async def approved_loans(self, capabilities: MifosCapabilities, *, offset: int, limit: int = 100) -> LoanPage:
        """One page of approved, undisbursed loans in the order of their ids.

        The set shrinks while loans are disbursed: collect all pages before acting, or read from offset 0 until nothing is new.
        """
        which = {"status": str(reading.APPROVED)} if capabilities.status_filter else {"sqlSearch": "l.loan_status_id=200"}
        page = {"offset": str(offset), "limit": str(limit), "orderBy": "id", "sortOrder": "ASC"}
        return await self._read("/loans", reading.read_loan_page, {**which, **page})

    async def loan(self, loan_id: int) -> ApprovedLoan:
        """A loan with its transactions and planned tranches, in whatever state it is. Raises NotFound."""
        return await self._read(f"/loans/{loan_id}", reading.read_loan, {"associations": "transactions,multiDisburseDetails"})

    async def client(self, client_id: int) -> MifosPerson:
        """A client. Raises NotFound."""
        return await self._read(f"/clients/{client_id}", reading.read_person)

    async def loan_transaction_by_external_id(self, loan_id: int, external_id: str) -> LoanTransaction | None:
        """The transaction posted under our external id, or None. A reversed one is returned too and proves nothing."""
        path = f"/loans/{loan_id}/transactions/external-id/{quote(external_id, safe='')}"
        try:
            return await self._read(path, reading.read_transaction)
        except NotThere as missing:
            if missing.code == "error.msg.loan.transaction.external.id.invalid":
                return None
            raise

    async def savings_account(self, savings_id: int) -> SavingsAccount:
        """A savings account with its transactions. Raises NotFound."""
        return await self._read(f"/savingsaccounts/{savings_id}", reading.read_savings, {"associations": "transactions"})

    async def find_accounts(self, reference: str) -> list[FoundAccount]:
        """The accounts whose number or external id is `reference`, whole and in any letter case.

        Empty for a reference with characters other than letters, digits and "-": it is never sent. A loan and a savings account
        can share a number; both are returned.
        """
        reference = reference.strip()
        if not _SEARCHABLE.fullmatch(reference):
            return []
        params = {"query": reference, "resource": "loans,savings", "exactMatch": "true"}
        found = await self._read("/search", lambda body: reading.read_found(body, reference), params)
        # The search does not tell the state of a savings account.
        return [
            replace(account, active=(await self.savings_account(account.id)).active) if account.kind == "savings" else account
            for account in found
        ]

    async def business_date(self) -> date | None:
        """The tenant's business date; None when it keeps none or does not show it to us (then its calendar day counts)."""
        try:
            return await self._read("/businessdate/BUSINESS_DATE", lambda body: reading.read_date(body.get("date"), "date"))
        except NotFound:
            return None
        except NotUnderstood as error:
            if error.status is None:
                raise
            return None  # an old server has no such path
        except RemoteRefusal as error:
            if error.status != _FORBIDDEN:
                raise
            return None

    async def hooks(self) -> list[MifosHook]:
        """All web hooks of the server."""
        return await self._read("/hooks", reading.read_hooks)

    async def create_hook(self, url: str) -> int:
        """Has the server post loan approvals and undone ones to `url`; returns the hook's id. The server calls `url` at once.

        Raises InvalidInput for a URL without a final slash or with a query: the server drops a query and cannot use the rest.
        """
        if not url.endswith("/") or "?" in url:
            raise InvalidInput(f"the web hook address {url[:40]!r}... must end in / and have no query")
        body = {
            "name": "Web",
            "displayName": "Payment Vault",
            "isActive": True,
            "events": [{"entityName": entity, "actionName": action} for entity, action in _HOOK_EVENTS],
            "config": {"Payload URL": url, "Content Type": "json"},
        }
        return self._made(await self._session.create("/hooks", body), "POST /hooks")

    async def disburse(self, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        """Posts a disbursement. `write.amount` is the principal, not the net payout."""
        path, target = f"/loans/{loan_id}", ("loanId", loan_id)
        return await self._write(path, "disburse", "actualDisbursementDate", write, target=target, made="subResourceId")

    async def repay(self, loan_id: int, write: CoreWrite) -> Outcome[Posted]:
        """Posts a repayment. More than is owed is accepted by the server and overpays the loan."""
        path, target = f"/loans/{loan_id}/transactions", ("loanId", loan_id)
        return await self._write(path, "repayment", "transactionDate", write, target=target, made="resourceId")

    async def deposit(self, savings_id: int, write: CoreWrite) -> Outcome[Posted]:
        """Posts a deposit. Give an external id only where `savings_external_ids` was found, and always a payment type."""
        path, target = f"/savingsaccounts/{savings_id}/transactions", ("savingsId", savings_id)
        return await self._write(path, "deposit", "transactionDate", write, target=target, made="resourceId")

    async def _write(
        self, path: str, command: str, date_key: str, write: CoreWrite, *, target: tuple[str, int], made: str
    ) -> Outcome[Posted]:
        optional = {
            "paymentTypeId": write.payment_type_id,
            "accountNumber": write.account_number,
            "externalId": write.external_id,
            "note": write.note[:1000] or None,
        }
        body = {
            date_key: write.on.isoformat(),
            "transactionAmount": str(write.amount.as_decimal()),  # text, so that no float stands between us and the books
            "receiptNumber": write.receipt,
            **{key: value for key, value in optional.items() if value is not None},
            **_FORMAT,
        }
        done = await self._session.send(
            "POST", path, params={"command": command}, body=body, idempotency_key=write.idempotency_key
        )
        if isinstance(done, Answer):
            return classify_write(done.status, done.headers, done.body, target=target, made=made, external_id=write.external_id)
        if isinstance(done, NotSent):
            return Refused(NOT_SENT, done.cause, Refusal.RETRY_LATER)
        return Unknown(done.cause)

    async def _read(self, path: str, read: Callable[[Any], T], params: Mapping[str, str] | None = None) -> T:
        body = await self._session.get(path, params)
        try:
            return read(body)
        except InvalidInput as error:
            raise NotUnderstood(f"GET {path}: {error}", code="shape") from error

    def _made(self, body: Any, what: str) -> int:
        number = whole_number(body.get("resourceId")) if isinstance(body, dict) else None
        if number is None:
            raise NotUnderstood(f"{what}: the answer names no resourceId", code="shape")
        return number
