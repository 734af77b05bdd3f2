"""Finding accounts: the paged list of loans, the search, and the accounts of one client."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.asgi import Answer, Request, json_answer
from sandbox.mifos.amounts import number
from sandbox.mifos.errors import pretty, spring
from sandbox.mifos.host import Client, Loan, MifosHost
from sandbox.mifos.loan_state import figures
from sandbox.mifos.loan_views import loan_item
from sandbox.mifos.partial import LOAN_FIELDS, partial
from sandbox.mifos.shapes import currency_view, loan_status, savings_status, savings_sub_status

_SQL_STATUS = re.compile(r"l\.loan_status_id\s*=\s*(\d+)")
_ORDERS: dict[str, Callable[[Loan], Any]] = {"id": lambda loan: loan.id, "accountNo": lambda loan: loan.account_no}
_HARD_CAP = 50


def loan_page(host: MifosHost, request: Request) -> Answer:
    """GET /loans. A word for `status` and a negative offset end in a 500; no, zero or negative limits mean all."""
    query = request.query
    try:
        offset, limit = int(query.get("offset") or 0), int(query.get("limit") or -1)
    except ValueError:
        return spring(404, "Not Found", request.path)
    try:
        status = _wanted_status(host, request)
    except ValueError:
        return spring(500, "Internal Server Error", request.path)
    if offset < 0:
        return spring(500, "Internal Server Error", request.path)
    found = [loan for loan in host.loans.values() if status is None or loan.status == status]
    if query.get("accountNo"):
        found = [loan for loan in found if loan.account_no == query["accountNo"]]
    if query.get("externalId"):
        found = [loan for loan in found if loan.external_id == query["externalId"]]
    column, _, direction = query.get("orderBy", "id").partition(" ")
    descending = query.get("sortOrder", direction[:4].strip() or "ASC").upper() == "DESC"
    found.sort(key=_ORDERS.get(column, _ORDERS["id"]), reverse=descending)
    shown = found[offset : offset + limit] if limit > 0 else found[offset:]
    items = [partial(loan_item(loan), request, LOAN_FIELDS) for loan in shown]
    return json_answer({"totalFilteredRecords": len(found), "pageItems": items})


def _wanted_status(host: MifosHost, request: Request) -> int | None:
    """Before 1.9 `status` was not known and silently ignored; `sqlSearch` was, and is ignored since."""
    if host.legacy:
        match = _SQL_STATUS.fullmatch(request.query.get("sqlSearch", "").strip())
        return int(match[1]) if match else None
    status = request.query.get("status")
    return int(status) if status else None


def search(host: MifosHost, request: Request) -> Answer:
    """GET /search: LIKE over numbers and names, so % and _ are wildcards; at most 50 rows."""
    query = request.query.get("query")
    if query is None:
        return json_answer([])
    resources = {each.strip().lower() for each in request.query.get("resource", "clients,loans,savings").split(",")}
    exact = request.query.get("exactMatch", "false").lower() == "true"
    matches = _like(query if exact else f"%{query}%")
    rows: list[dict[str, Any]] = []
    if "savings" in resources:
        rows += _savings_rows(host, matches)
    if "loans" in resources:
        rows += _loan_rows(host, matches)
    if "clients" in resources:
        rows += _client_rows(host, matches)
    return json_answer(rows[:_HARD_CAP])


def client_accounts(client: Client, host: MifosHost) -> Answer:
    """GET /clients/{id}/accounts. A list of loans or savings that would be empty is absent."""
    body: dict[str, Any] = {}
    loans = [_account_loan(loan) for loan in host.loans.values() if loan.client is client]
    if loans:
        body["loanAccounts"] = loans
    savings = [
        {
            "id": account.id,
            "accountNo": account.account_no,
            **({"externalId": account.external_id} if account.external_id else {}),
            "productId": 1,
            "productName": account.product_name,
            "status": savings_status(account.status),
            "subStatus": savings_sub_status(blocked=account.blocked),
            "currency": currency_view(account.currency),
            **({"accountBalance": number(account.balance_cents)} if account.balance_cents else {}),
        }
        for account in host.savings.values()
        if account.client is client
    ]
    body |= {"groupLoanIndividualMonitoringAccounts": [], "guarantorAccounts": []}
    if savings:
        body["savingsAccounts"] = savings
    return json_answer(body)


def search_clients_v2(host: MifosHost, request: Request) -> Answer:
    """POST /v2/clients/search: a substring of name, number, external id or phone."""
    body = request.json_object()
    text = str((body.get("request") or {}).get("text", ""))
    page, size = int(body.get("page", 0)), int(body.get("size", 50))
    found = [client for client in host.clients.values() if any(text in field for field in _fields(client))]
    shown = found[page * size : (page + 1) * size]
    content = [
        {
            "id": client.id,
            "displayName": client.display_name,
            **({"externalId": client.external_id} if client.external_id else {}),
            "accountNumber": client.account_no,
            "officeId": 1,
            "officeName": "Head Office",
            **({"mobileNo": client.mobile_no} if client.mobile_no else {}),
            "status": {"id": 300, "code": "clientStatusType.active", "value": "Active"},
            "activationDate": "2026-01-01",
            "createdDate": "2026-01-01T06:00:00Z",
        }
        for client in shown
    ]
    order = {"sorted": True, "empty": False, "unsorted": False}
    pages = -(-len(found) // size)
    return pretty(
        {
            "content": content,
            "pageable": {
                "pageNumber": page,
                "pageSize": size,
                "sort": order,
                "offset": page * size,
                "paged": True,
                "unpaged": False,
            },
            "sort": order,
            "totalPages": pages,
            "totalElements": len(found),
            "last": page + 1 >= pages,
            "size": size,
            "number": page,
            "numberOfElements": len(content),
            "first": page == 0,
            "empty": not content,
        },
        200,
    )


def _fields(client: Client) -> Iterable[str]:
    return (field for field in (client.display_name, client.account_no, client.external_id, client.mobile_no) if field)


def _like(pattern: str) -> Callable[[str | None], bool]:
    if "%" not in pattern and "_" not in pattern:
        return lambda value: value == pattern
    parts = ["." if sign == "_" else ".*" if sign == "%" else re.escape(sign) for sign in pattern]
    expression = re.compile("".join(parts), re.DOTALL)
    return lambda value: value is not None and expression.fullmatch(value) is not None


def _row(entity: str, id_: int, account_no: str, external_id: str | None, name: str) -> dict[str, Any]:
    external = {"entityExternalId": external_id} if external_id else {}
    return {"entityId": id_, "entityAccountNo": account_no, **external, "entityName": name, "entityType": entity}


def _savings_rows(host: MifosHost, matches: Callable[[str | None], bool]) -> list[dict[str, Any]]:
    """The status of a savings account is empty in a search, as on the real server."""
    return [
        _row("SAVING", account.id, account.account_no, account.external_id, account.product_name)
        | {
            "parentId": account.client.id,
            "parentName": account.client.display_name,
            "entityStatus": {"id": 0, "code": "", "value": ""},
            "parentType": "client",
            "subEntityType": "depositAccountType.savingsDeposit",
        }
        for account in reversed(host.savings.values())
        if matches(account.account_no) or matches(account.external_id)
    ]


def _loan_rows(host: MifosHost, matches: Callable[[str | None], bool]) -> list[dict[str, Any]]:
    rows = []
    for loan in reversed(host.loans.values()):
        if not (matches(loan.account_no) or matches(loan.external_id)):
            continue
        status = loan_status(loan.status)
        parent = (loan.client.id, loan.client.display_name) if loan.client else (loan.id, loan.group_name or "Group")
        rows.append(
            _row("LOAN", loan.id, loan.account_no, loan.external_id, loan.product.name)
            | {
                "parentId": parent[0],
                "parentName": parent[1],
                "entityStatus": {name: status[name] for name in ("id", "code", "value")},
                "parentType": "client" if loan.client else "group",
                "subEntityType": "depositAccountType.invalid",
            }
        )
    return rows


def _client_rows(host: MifosHost, matches: Callable[[str | None], bool]) -> list[dict[str, Any]]:
    return [
        _row("CLIENT", client.id, client.account_no, client.external_id, client.display_name)
        | {
            "parentId": 1,
            "parentName": "Head Office",
            **({"entityMobileNo": client.mobile_no} if client.mobile_no else {}),
            "entityStatus": {"id": 300, "code": "clientStatusType.active", "value": "Active"},
            "subEntityType": "depositAccountType.invalid",
        }
        for client in reversed(host.clients.values())
        if any(matches(field) for field in _fields(client))
    ]


def _account_loan(loan: Loan) -> dict[str, Any]:
    item = loan_item(loan)
    view: dict[str, Any] = {
        name: item[name]
        for name in ("id", "accountNo", "externalId", "status", "currency", "loanType", "timeline")
        if name in item
    }
    view |= {"productId": loan.product.id, "productName": loan.product.name, "shortProductName": loan.product.short_name}
    if loan.status >= 300:
        now = figures(loan)
        paid = now.principal_paid_cents + now.interest_paid_cents
        view |= {
            "loanCycle": 1,
            "originalLoan": number(loan.principal_cents),
            **({"loanBalance": number(now.outstanding_cents)} if now.outstanding_cents else {}),
            **({"amountPaid": number(paid)} if paid else {}),
        }
    return view | {"inArrears": False}
