"""The plain reads: products, payment types, clients, one loan, one transaction, one savings account, the business date."""

from datetime import date, datetime
from typing import Any

from sandbox.asgi import Answer, Request, json_answer
from sandbox.mifos.amounts import number
from sandbox.mifos.errors import Fault, RefusalError, not_found, spring, validation
from sandbox.mifos.host import Client, Loan, LoanTransaction, MifosHost, PaymentType, Product, Savings
from sandbox.mifos.loan_state import figures
from sandbox.mifos.loan_views import loan_detail
from sandbox.mifos.partial import CLIENT_FIELDS, LOAN_FIELDS, partial
from sandbox.mifos.payload import Payload
from sandbox.mifos.shapes import CURRENCY, DAILY_INTEREST, PRODUCT, date_array

_OPENED = [2026, 1, 1]
_ACTIVE = 300


def loan_products(host: MifosHost) -> Answer:
    """GET /loanproducts: a plain array, newest first."""
    return json_answer([_product(product) for product in sorted(host.products.values(), key=lambda each: -each.id)])


def payment_types(host: MifosHost) -> Answer:
    """GET /paymenttypes."""
    return json_answer([_payment_type(kind) for kind in host.payment_types.values()])


def create_payment_type(host: MifosHost, request: Request) -> Answer:
    """POST /paymenttypes."""
    body = request.json_object()
    payload = Payload(body, "paymenttype")
    payload.only({"name", "description", "isCashPayment", "position"})
    payload.required("name")
    payload.check()
    kind = PaymentType(
        host.next_id("payment type"),
        str(body["name"]),
        str(body.get("description") or ""),
        bool(body.get("isCashPayment", False)),
        int(body.get("position") or 0),
    )
    host.payment_types[kind.id] = kind
    return json_answer({"resourceId": kind.id})


def payoff_template(loan: Loan, request: Request, today: date) -> Answer:
    """GET /loans/{id}/transactions/template?command=prepayLoan: what pays the loan off; nothing of one that is paid off."""
    if request.query.get("command") != "prepayLoan":
        raise unsupported_command(request.query.get("command"))
    owed = figures(loan).outstanding_cents if loan.status == _ACTIVE else 0
    return json_answer(
        {
            "loanId": loan.id,
            "type": {"id": 2, "code": "loanTransactionType.repayment", "value": "Repayment"},
            "date": date_array(today),
            "currency": CURRENCY,
            "amount": number(owed),
            "netDisbursalAmount": number(loan.net_cents),
            "manuallyReversed": False,
        }
    )


def client_view(client: Client) -> dict[str, Any]:
    """GET /clients/{id}. What is not set is absent, the phone too."""
    external = {"externalId": client.external_id} if client.external_id else {}
    mobile = {"mobileNo": client.mobile_no} if client.mobile_no else {}
    who = {"Username": "mifos", "Firstname": "App", "Lastname": "Administrator"}
    return {
        "id": client.id,
        "accountNo": client.account_no,
        **external,
        "status": {"id": 300, "code": "clientStatusType.active", "value": "Active"},
        "active": client.active,
        "activationDate": _OPENED,
        "firstname": client.first_name,
        "lastname": client.last_name,
        "displayName": client.display_name,
        **mobile,
        "isStaff": False,
        "officeId": 1,
        "officeName": "Head Office",
        "timeline": {
            "submittedOnDate": _OPENED,
            "activatedOnDate": _OPENED,
            **{f"activatedBy{name}": value for name, value in who.items()},
        },
        "savingsProductName": str(client.id),  # sic
        "legalForm": {"id": 1, "code": "legalFormType.person", "value": "Person"},
        "clientCollateralManagements": [],
        "groups": [],
    }


def _client_row(client: Client) -> dict[str, Any]:
    """A row of the list carries empty objects that the detail does not."""
    nothing = {"active": False, "mandatory": False}
    return client_view(client) | dict.fromkeys(("subStatus", "gender", "clientType", "clientClassification"), nothing)


def client_page(host: MifosHost, request: Request) -> Answer:
    """GET /clients."""
    try:
        offset, limit = int(request.query.get("offset") or 0), int(request.query.get("limit") or -1)
    except ValueError:
        return spring(404, "Not Found", request.path)
    found = sorted(host.clients.values(), key=lambda client: client.id)
    shown = found[offset : offset + limit] if limit > 0 else found[offset:]
    items = [partial(_client_row(client), request, CLIENT_FIELDS) for client in shown]
    return json_answer({"totalFilteredRecords": len(found), "pageItems": items})


def loan_view(loan: Loan, request: Request) -> Answer:
    """GET /loans/{id}."""
    wanted = frozenset(each.strip() for each in request.query.get("associations", "").split(","))
    return json_answer(partial(loan_detail(loan, wanted), request, LOAN_FIELDS))


def business_date(host: MifosHost, kind: str | None) -> Answer:
    """GET /businessdate and /businessdate/BUSINESS_DATE."""
    if kind is None:
        return json_answer([_business_date(host.business_date)] if host.business_date else [])
    if kind != "BUSINESS_DATE" or host.business_date is None:
        text = f"Business date with type `{kind}` is not found."
        raise not_found(Fault(text, "error.msg.businessdate.not.found", "id", (kind, [])))
    return json_answer(_business_date(host.business_date))


def set_business_date(host: MifosHost, request: Request) -> Answer:
    """POST /businessdate."""
    body = request.json_object()
    host.business_date = date.fromisoformat(str(body.get("date")))
    return json_answer({"changes": {"BUSINESS_DATE": date_array(host.business_date)}})


def loan_by_id(host: MifosHost, loan_id: int) -> Loan:
    """The loan, or the 404."""
    loan = host.loans.get(loan_id)
    if loan is None:
        raise not_found(Fault(f"Loan with identifier {loan_id} does not exist", "error.msg.loan.id.invalid", "id", (loan_id,)))
    return loan


def loan_by_external_id(host: MifosHost, external_id: str) -> Loan:
    """The loan, or the 404."""
    loan_id = host.loan_external_ids.get(external_id)
    if loan_id is None:
        text = f"Loan with external identifier {external_id} does not exist"
        raise not_found(Fault(text, "error.msg.loan.external.id.invalid", "id", (external_id,)))
    return host.loans[loan_id]


def transaction_by_id(loan: Loan, transaction_id: int) -> LoanTransaction:
    """The transaction of this loan, or the 404."""
    for transaction in loan.transactions:
        if transaction.id == transaction_id:
            return transaction
    text = f"Transaction with identifier {transaction_id} does not exist"
    raise not_found(Fault(text, "error.msg.loan.transaction.id.invalid", "id", (transaction_id,)))


def transaction_by_external_id(host: MifosHost, loan: Loan, external_id: str) -> LoanTransaction:
    """The transaction, dead or alive, or the 404."""
    found = host.transaction_external_ids.get(external_id)
    if found is None or found[0] != loan.id:
        text = f"Transaction with external identifier {external_id} does not exist"
        raise not_found(Fault(text, "error.msg.loan.transaction.external.id.invalid", "id", (external_id,)))
    return found[1]


def client_by_id(host: MifosHost, client_id: int) -> Client:
    """The client, or the 404."""
    client = host.clients.get(client_id)
    if client is None:
        text = f"Client not found with valuer {client_id}."  # sic
        raise not_found(Fault(text, "error.msg.client.not.found.with.client.id", "id", (str(client_id),)))
    return client


def savings_by_id(host: MifosHost, savings_id: int) -> Savings:
    """The savings account, or the 404."""
    account = host.savings.get(savings_id)
    if account is None:
        text = f"Savings account with identifier {savings_id} does not exist"
        raise not_found(Fault(text, "error.msg.saving.account.id.invalid", "id", (savings_id,)))
    return account


def unsupported_command(value: str | None, supported: tuple[str, ...] = ()) -> RefusalError:
    """400 for a `?command=` nobody knows."""
    text = f"The query parameter command has an unsupported value of: {value or 'null'}"
    code = "error.msg.query.parameter.value.unsupported"
    return validation(Fault(text, code, "command", ("command", value or {}, list(supported))))


def server_info(host: MifosHost) -> Answer:
    """GET /actuator/info, open to all."""
    return json_answer({"git": {"branch": "sandbox", "build": {"version": host.shown_version}}})


def savings_history(view: dict[str, Any], request: Request) -> Answer:
    """GET /savingsaccounts/{id}/transactions/search, by day and amount."""
    rows = view.get("transactions", [])
    first, last = _day(request.query.get("fromDate")), _day(request.query.get("toDate"))
    rows = [row for row in rows if (first is None or row["date"] >= first) and (last is None or row["date"] <= last)]
    return json_answer({"total": len(rows), "content": rows, "pageable": {"pageNumber": 0, "pageSize": len(rows)}})


def _day(text: str | None) -> list[int] | None:
    return date_array(datetime.strptime(text, "%Y-%m-%d").date()) if text else None  # noqa: DTZ007 - a day has no zone


def _business_date(day: date) -> dict[str, Any]:
    return {"description": "Business Date", "type": "BUSINESS_DATE", "date": date_array(day)}


def _product(product: Product) -> dict[str, Any]:
    state = "active" if product.active else "inActive"
    tranches: dict[str, Any] = {
        "multiDisburseLoan": product.multi_disburse,
        "maxTrancheCount": 3 if product.multi_disburse else 0,
    }
    if product.multi_disburse:
        tranches |= {"outstandingLoanBalance": number(500_000_00), "principalThresholdForLastInstallment": number(50_00)}
        tranches["interestCalculationPeriodType"] = DAILY_INTEREST
    return {
        "id": product.id,
        "name": product.name,
        "shortName": product.short_name,
        "status": f"loanProduct.{state}",
        "currency": CURRENCY,
        "principal": number(15_000_00),
        **PRODUCT,
        "syncExpectedWithDisbursementDate": product.sync_expected,
        **tranches,
    }


def _payment_type(kind: PaymentType) -> dict[str, Any]:
    code = {} if kind.code_name is None else {"codeName": kind.code_name}
    return {
        "id": kind.id,
        "name": kind.name,
        "description": kind.description,
        "isCashPayment": kind.is_cash,
        "position": kind.position,
        **code,
        "isSystemDefined": kind.is_system,
    }
