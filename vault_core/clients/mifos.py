"""The Mifos X (Apache Fineract) client: one partner's server, read and written over its REST interface."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from vault_core.clients import mifos_reading as reading
from vault_core.clients.http_exchange import Answer, NotSent
from vault_core.clients.json_reading import whole_number
from vault_core.clients.mifos_calendar import OfficeCalendar, read_calendars
from vault_core.clients.mifos_errors import NOT_SENT, NotThere, classify_write
from vault_core.clients.mifos_probe import find_capabilities
from vault_core.clients.mifos_session import MifosSession
from vault_core.clients.mifos_values import (
    AccountPage,
    ApprovedLoan,
    ClientPage,
    CoreWrite,
    FoundAccount,
    ListedClient,
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

HOOK_EVENTS = (
    ("LOAN", "APPROVE"),
    ("LOAN", "APPROVALUNDO"),
    ("LOAN", "DISBURSALUNDO"),
    ("LOAN", "DISBURSALLASTUNDO"),
    ("LOAN", "REPAYMENT"),
    ("LOAN", "ADJUST"),
    ("SAVINGSACCOUNT", "DEPOSIT"),
    ("SAVINGSACCOUNT", "UNDOTRANSACTION"),
    ("SAVINGSACCOUNT", "ADJUSTTRANSACTION"),
)
_SEARCHABLE = re.compile(r"[A-Za-z0-9-]{1,100}")  # a % or _ would be a wildcard in the server's LIKE
_FORBIDDEN = 403
_BUSINESS_DATE = "/businessdate/BUSINESS_DATE"
_PAYMENT_TYPES = "/paymenttypes"
_ACCOUNTS = {"loan": "/loans", "savings": "/savingsaccounts"}
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

    async def reach(self) -> None:
        """Asks once whether the server is there; any answer says so, a refusal too, but no failure inside. Raises Unreachable."""
        await self._session.reach(_BUSINESS_DATE, _PAYMENT_TYPES)

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
        return await self._read(_PAYMENT_TYPES, reading.read_payment_types)

    async def create_payment_type(self, name: str) -> int:
        """Makes a payment type that is not cash and returns its id."""
        body = {"name": name, "description": name, "isCashPayment": False, "position": 1}
        return self._made(await self._session.create("/paymenttypes", body), "POST /paymenttypes")

    async def approved_loans(self, capabilities: MifosCapabilities, *, offset: int, limit: int = 100) -> LoanPage:
        """One page of approved, undisbursed loans in the order of their ids.

        The set shrinks while loans are disbursed: collect all pages before acting, or read from offset 0 until nothing is new.
        """
        which = {"status": str(reading.APPROVED)} if capabilities.status_filter else {"sqlSearch": "l.loan_status_id=200"}
        return await self._read("/loans", reading.read_loan_page, {**which, **_page(offset, limit)})

    async def loan(self, loan_id: int, *, history: bool = True) -> ApprovedLoan:
        """A loan with its transactions and planned tranches, in whatever state it is. Raises NotFound.

        Without `history` it has neither: much less to read, of a loan with many payments above all.

        Of an approved top-up also what its older loan owes: the server takes that off only with the disbursal, and what it told
        as net at the approval may be too much, or out of date.
        """
        wanted = {"associations": "transactions,multiDisburseDetails"} if history else None
        found = await self._read(f"/loans/{loan_id}", reading.read_loan, wanted)
        if not found.top_up or found.status_id != reading.APPROVED or found.older_loan_id is None:
            return found
        payoff = f"/loans/{found.older_loan_id}/transactions/template"
        return replace(found, payoff=await self._read(payoff, reading.read_payoff, {"command": "prepayLoan"}))

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

    async def savings_account(self, savings_id: int, *, history: bool = True) -> SavingsAccount:
        """A savings account with its transactions, or without them (`history`). Raises NotFound."""
        wanted = {"associations": "transactions"} if history else None
        return await self._read(f"/savingsaccounts/{savings_id}", reading.read_savings, wanted)

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
        return [await self.account(kind, account_id) for kind, account_id in found]

    async def account(self, kind: str, account_id: int) -> FoundAccount:
        """A loan or savings account (`kind`) as it is now, without its transactions. Raises NotFound."""
        return await self._read(f"{_ACCOUNTS[kind]}/{account_id}", lambda body: reading.read_account(body, kind))

    async def account_page(self, kind: str, *, offset: int, limit: int, newest_first: bool = False) -> AccountPage:
        """One page of all loans or savings accounts in whatever state, in the order of their ids. The same on every version."""
        page = _page(offset, limit, newest_first=newest_first)
        return await self._read(_ACCOUNTS[kind], lambda body: reading.read_account_page(body, kind), page)

    async def client_page(self, *, offset: int, limit: int) -> ClientPage:
        """One page of all clients in the order of their ids."""
        return await self._read("/clients", reading.read_client_page, _page(offset, limit))

    async def listed_client(self, client_id: int) -> ListedClient:
        """A client as the list would have it. Raises NotFound."""
        return await self._read(f"/clients/{client_id}", reading.read_listed_client)

    async def open_accounts(self, client_id: int) -> list[tuple[str, int]]:
        """Kind and id of a client's accounts that a payment may mean: active, blocked or in transfer. Raises NotFound."""
        return await self._read(f"/clients/{client_id}/accounts", reading.read_open_accounts)

    async def business_date(self) -> date | None:
        """The tenant's business date; None when it keeps none or does not show it to us (then its calendar day counts)."""
        try:
            return await self._read(_BUSINESS_DATE, lambda body: reading.read_date(body.get("date"), "date"))
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

    async def calendars(self, office_ids: Collection[int]) -> dict[int, OfficeCalendar]:
        """On which days these offices take no disbursal, as far as the server has that and shows it to us."""
        return await read_calendars(self._session, office_ids)

    async def hooks(self) -> list[MifosHook]:
        """All web hooks of the server."""
        return await self._read("/hooks", reading.read_hooks)

    async def create_hook(self, url: str) -> int:
        """Has the server post loan approvals and undone ones to `url`; returns the hook's id. The server calls `url` at once.

        Raises InvalidInput for a URL without a final slash or with a query: the server drops a query and cannot use the rest.
        """
        return self._made(await self._session.create("/hooks", _hook(url)), "POST /hooks")

    async def renew_hook(self, hook: MifosHook, url: str) -> None:
        """Has an existing hook send to `url` what a new one would, beside what it sends already."""
        more = tuple(event for event in hook.events if event not in HOOK_EVENTS)
        await self._session.change(f"/hooks/{hook.id}", _hook(url, more))

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

    async def undo_repayment(self, loan_id: int, transaction_id: int, *, on: date) -> Outcome[Posted]:
        """Undoes a repayment; `on`: the day that it is dated. Its external id stays burnt. Read before a second try."""
        path = f"/loans/{loan_id}/transactions/{transaction_id}"
        body = {"transactionDate": on.isoformat(), "transactionAmount": "0", **_FORMAT}
        return await self._send(path, "undo", body, None, target=("loanId", loan_id))

    async def undo_deposit(self, savings_id: int, transaction_id: int) -> Outcome[Posted]:
        """Undoes a deposit. Its external id, where the server takes them, stays burnt. Read before a second try."""
        path = f"/savingsaccounts/{savings_id}/transactions/{transaction_id}"
        return await self._send(path, "undo", {}, None, target=("savingsId", savings_id))

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
        key, external_id = write.idempotency_key, write.external_id
        return await self._send(path, command, body, key, target=target, made=made, external_id=external_id)

    async def _send(
        self,
        path: str,
        command: str,
        body: Mapping[str, Any],
        idempotency_key: str | None,
        *,
        target: tuple[str, int],
        made: str = "resourceId",
        external_id: str | None = None,
    ) -> Outcome[Posted]:
        done = await self._session.send("POST", path, params={"command": command}, body=body, idempotency_key=idempotency_key)
        if isinstance(done, Answer):
            return classify_write(done.status, done.headers, done.body, target=target, made=made, external_id=external_id)
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


def _hook(url: str, more: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    if not url.endswith("/") or "?" in url:
        raise InvalidInput(f"the web hook address {url[:40]!r}... must end in / and have no query")
    return {
        "name": "Web",
        "displayName": "Payment Vault",
        "isActive": True,
        "events": [{"entityName": entity, "actionName": action} for entity, action in (*HOOK_EVENTS, *more)],
        "config": {"Payload URL": url, "Content Type": "json"},
    }


def _page(offset: int, limit: int, *, newest_first: bool = False) -> dict[str, str]:
    """Limit and order are always stated: a server that is not told sends all rows, in any order."""
    order = "DESC" if newest_first else "ASC"
    return {"offset": str(offset), "limit": str(limit), "orderBy": "id", "sortOrder": order}
