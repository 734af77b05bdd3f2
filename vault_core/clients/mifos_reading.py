"""From Mifos X answers to values. Every shape trap of the reads is here (reference/fineract.md sections 2, 3, 5 and 11).

The functions raise InvalidInput, naming the field, for an answer that is not what the interface sends.
"""

from datetime import date
from typing import Any

from vault_core.clients.json_reading import text_of, whole_number
from vault_core.clients.mifos_values import (
    OPEN_STATES,
    AccountPage,
    AccountState,
    ApprovedLoan,
    ClientPage,
    FoundAccount,
    ListedClient,
    LoanPage,
    LoanProduct,
    LoanTransaction,
    MifosHook,
    MifosPerson,
    PaymentType,
    PlannedTranche,
    SavingsAccount,
)
from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money

APPROVED = 200
ACTIVE = 300
_STATES = {
    100: AccountState.PENDING,
    APPROVED: AccountState.APPROVED,
    ACTIVE: AccountState.ACTIVE,
    303: AccountState.TRANSFER,
    304: AccountState.TRANSFER,
    400: AccountState.REJECTED,
    500: AccountState.REJECTED,
    600: AccountState.CLOSED,
}
_LOAN_STATES = _STATES | {601: AccountState.WRITTEN_OFF, 602: AccountState.CLOSED, 700: AccountState.OVERPAID}
_SAVINGS_STATES = _STATES | {700: AccountState.CLOSED, 800: AccountState.CLOSED}  # closed before its time; matured
_PLAIN_SAVINGS = 100  # depositType; 200 fixed, 300 recurring


def read_products(body: Any) -> list[LoanProduct]:
    """GET /loanproducts: a plain array."""
    return [
        LoanProduct(
            id=_number(row, "id"),
            name=_text(row, "name"),
            short_name=text_of(row.get("shortName")) or "",
            currency=_text(_object(row, "currency"), "code"),
            active=text_of(row.get("status")) != "loanProduct.inActive",
            expected_day_only=row.get("syncExpectedWithDisbursementDate") is True,
        )
        for row in _rows(body, "loan products")
    ]


def read_payment_types(body: Any) -> list[PaymentType]:
    """GET /paymenttypes."""
    return [
        PaymentType(id=_number(row, "id"), name=_text(row, "name"), is_cash=row.get("isCashPayment") is True)
        for row in _rows(body, "payment types")
    ]


def read_loan_page(body: Any) -> LoanPage:
    """GET /loans for approved ones. Rows of another status are left out: an old server ignores a filter it does not know.

    A row that cannot be read is named in `unreadable` and does not keep the others from being paid.
    """
    page = _as_object(body, "loan page")
    loans: list[ApprovedLoan] = []
    unreadable: list[str] = []
    rows = _rows(page.get("pageItems"), "pageItems of the loan page")
    for row in rows:
        if whole_number(_object(row, "status").get("id")) != APPROVED:
            continue
        try:
            loans.append(read_loan(row))
        except InvalidInput as error:
            unreadable.append(f"loan {text_of(row.get('id'))}: {error}")
    ids = tuple(number for row in rows if (number := whole_number(row.get("id"))) is not None)
    return LoanPage(total=_number(page, "totalFilteredRecords"), loans=loans, unreadable=tuple(unreadable), ids=ids)


def status_ids(body: Any) -> tuple[int, list[int | None]]:
    """GET /loans: how many rows the whole result has, and the status of each row of this page."""
    page = _as_object(body, "loan page")
    rows = _rows(page.get("pageItems"), "pageItems of the loan page")
    return _number(page, "totalFilteredRecords"), [whole_number(_object(row, "status").get("id")) for row in rows]


def read_loan(body: Any) -> ApprovedLoan:
    """One loan, from the list or from GET /loans/{id}."""
    loan = _as_object(body, "loan")
    timeline = _object(loan, "timeline")
    status_id = _number(_object(loan, "status"), "id")
    approved = timeline.get("approvedOnDate") or (None if status_id == APPROVED else timeline.get("submittedOnDate"))
    expected, fees = timeline.get("expectedDisbursementDate"), loan.get("feeChargesAtDisbursementCharged")
    first_repayment, summary = loan.get("expectedFirstRepaymentOnDate"), loan.get("summary")
    outstanding = summary.get("totalOutstanding") if isinstance(summary, dict) else None
    return ApprovedLoan(
        id=_number(loan, "id"),
        account_no=_text(loan, "accountNo"),
        external_id=text_of(loan.get("externalId")) or None,
        status_id=status_id,
        client_id=whole_number(loan.get("clientId")),
        client_name=text_of(loan.get("clientName")) or None,
        group=isinstance(loan.get("group"), dict),
        product_id=_number(loan, "loanProductId"),
        currency=_text(_object(loan, "currency"), "code"),
        approved_principal=_money(loan, "approvedPrincipal"),
        net_disbursal=_money(loan, "netDisbursalAmount"),
        multi_disburse=loan.get("multiDisburseLoan") is True,
        approved_on=read_date(approved, "timeline.approvedOnDate"),
        transactions=[read_transaction(row) for row in _rows(loan.get("transactions") or [], "transactions")],
        total_outstanding=None if outstanding is None else _amount(outstanding, "summary.totalOutstanding"),
        tranches=_tranches(loan.get("disbursementDetails") or []),
        expected_on=read_date(expected, "timeline.expectedDisbursementDate") if expected else None,
        first_repayment_on=read_date(first_repayment, "expectedFirstRepaymentOnDate") if first_repayment else None,
        top_up=loan.get("isTopup") is True,
        older_loan_id=whole_number(loan.get("closureLoanId")),
        topped_up=None if (taken := loan.get("topupAmount")) is None else _amount(taken, "topupAmount"),
        fees_at_disbursement=ZERO if fees is None else _amount(fees, "feeChargesAtDisbursementCharged"),
        overpaid=Money(0) if (over := loan.get("totalOverpaid")) is None else _amount(over, "totalOverpaid"),
        office_id=whole_number(loan.get("clientOfficeId")),
    )


def read_payoff(body: Any) -> Money:
    """GET /loans/{id}/transactions/template?command=prepayLoan: what pays the loan off on the server's day, interest and all."""
    return _money(_as_object(body, "template"), "amount")


def _tranches(rows: Any) -> tuple[PlannedTranche, ...]:
    # A loan without a plan has one row here without an id on some servers: that is the loan itself.
    planned = [
        PlannedTranche(
            id=_number(row, "id"),
            expected_on=read_date(row.get("expectedDisbursementDate"), "expectedDisbursementDate of a tranche"),
            principal=_money(row, "principal"),
            disbursed_on=read_date(actual, "actualDisbursementDate") if (actual := row.get("actualDisbursementDate")) else None,
        )
        for row in _rows(rows, "disbursementDetails")
        if row.get("id") is not None
    ]
    return tuple(sorted(planned, key=lambda tranche: (tranche.expected_on, tranche.id)))


def read_transaction(body: Any) -> LoanTransaction:
    """One transaction of a loan ("type") or of a savings account ("transactionType").

    Reversed when any of the server's three marks says so: `manuallyReversed` stays false for an undone disbursement.
    """
    row = _as_object(body, "transaction")
    kind = row.get("type") or row.get("transactionType")
    code = _text(_as_object(kind, "type of the transaction"), "code")
    payment = row.get("paymentDetailData")
    receipt = payment.get("receiptNumber") if isinstance(payment, dict) else None
    marks = (row.get("reversedOnDate"), row.get("manuallyReversed") is True, row.get("reversed") is True)
    return LoanTransaction(
        id=_number(row, "id"),
        kind=code.rsplit(".", 1)[-1],
        amount=_money(row, "amount"),
        on=read_date(row.get("date"), "date"),
        external_id=text_of(row.get("externalId")) or None,
        receipt=text_of(receipt) or None,
        reversed=any(marks),
    )


def read_person(body: Any) -> MifosPerson:
    """GET /clients/{id}."""
    row = _as_object(body, "client")
    return MifosPerson(
        id=_number(row, "id"),
        display_name=_text(row, "displayName"),
        mobile_no=text_of(row.get("mobileNo")) or None,
        active=row.get("active") is not False,
    )


def read_savings(body: Any) -> SavingsAccount:
    """GET /savingsaccounts/{id}?associations=transactions."""
    row = _as_object(body, "savings account")
    summary = row.get("summary")
    balance = summary.get("accountBalance") if isinstance(summary, dict) else None
    return SavingsAccount(
        id=_number(row, "id"),
        account_no=_text(row, "accountNo"),
        balance=Money(0) if balance is None else _amount(balance, "summary.accountBalance"),
        active=savings_state(row) is AccountState.ACTIVE,
        client_id=whole_number(row.get("clientId")),
        client_name=text_of(row.get("clientName")) or None,
        transactions=[read_transaction(inner) for inner in _rows(row.get("transactions") or [], "transactions")],
    )


def read_found(body: Any, reference: str) -> list[tuple[str, int]]:
    """GET /search: kind and id of the loans and savings accounts whose number or external id is exactly `reference`.

    In any letter case. The rest of a row is not worth reading: it tells no state of a savings account, and no currency.
    """
    wanted = reference.casefold()
    found: list[tuple[str, int]] = []
    for row in _rows(body, "search result"):
        kind = {"LOAN": "loan", "SAVING": "savings"}.get(text_of(row.get("entityType")) or "")
        names = [(text_of(row.get(key)) or "").casefold() for key in ("entityAccountNo", "entityExternalId")]
        if kind is not None and wanted in names:
            found.append((kind, _number(row, "entityId")))
    return found


def read_account(body: Any, kind: str) -> FoundAccount:
    """A loan or savings account (`kind`), from its list or by itself."""
    row = _as_object(body, f"{kind} account")
    return FoundAccount(
        kind=kind,
        id=_number(row, "id"),
        account_no=_text(row, "accountNo"),
        external_id=text_of(row.get("externalId")) or None,
        client_id=whole_number(row.get("clientId")),
        client_name=text_of(row.get("clientName")) or None,
        state=loan_state(row) if kind == "loan" else savings_state(row),
        currency=_text(_object(row, "currency"), "code"),
        product_id=whole_number(row.get("loanProductId" if kind == "loan" else "savingsProductId")),
    )


def read_account_page(body: Any, kind: str) -> AccountPage:
    """GET /loans or /savingsaccounts without a filter. Fixed and recurring deposits, which take no such payment, are left out."""
    page = _as_object(body, f"page of {kind} accounts")
    rows = _rows(page.get("pageItems"), f"pageItems of the {kind} page")
    accounts: list[FoundAccount] = []
    unreadable: list[str] = []
    for row in rows:
        if kind == "savings" and not _is_plain_savings(row):
            continue
        try:
            accounts.append(read_account(row, kind))
        except InvalidInput as error:
            unreadable.append(f"{kind} {text_of(row.get('id'))}: {error}")
    ids = tuple(_number(row, "id") for row in rows)
    return AccountPage(_number(page, "totalFilteredRecords"), ids, tuple(accounts), tuple(unreadable))


def read_client_page(body: Any) -> ClientPage:
    """GET /clients."""
    page = _as_object(body, "page of clients")
    rows = _rows(page.get("pageItems"), "pageItems of the client page")
    return ClientPage(_number(page, "totalFilteredRecords"), tuple(read_listed_client(row) for row in rows))


def read_open_accounts(body: Any) -> list[tuple[str, int]]:
    """GET /clients/{id}/accounts: kind and id of those that could be meant by a payment now (active, blocked or in transfer)."""
    row = _as_object(body, "accounts of a client")
    loans = _rows(row.get("loanAccounts") or [], "loanAccounts")
    savings = [one for one in _rows(row.get("savingsAccounts") or [], "savingsAccounts") if _is_plain_savings(one)]
    found = [("loan", one, loan_state(one)) for one in loans] + [("savings", one, savings_state(one)) for one in savings]
    return [(kind, _number(one, "id")) for kind, one, state in found if state in OPEN_STATES]


def read_listed_client(body: Any) -> ListedClient:
    """A client, from the list or by itself."""
    row = _as_object(body, "client")
    return ListedClient(
        id=_number(row, "id"),
        account_no=_text(row, "accountNo"),
        display_name=text_of(row.get("displayName")) or "",
        mobile_no=text_of(row.get("mobileNo")) or None,
    )


def loan_state(row: dict[str, Any]) -> AccountState:
    """The state of a loan by its status."""
    return loan_state_of(_number(_object(row, "status"), "id"))


def loan_state_of(status_id: int) -> AccountState:
    """The state that a loan of status `status_id` is in (reference/fineract.md section 3)."""
    return _LOAN_STATES.get(status_id, AccountState.OTHER)


def savings_state(row: dict[str, Any]) -> AccountState:
    """The state of a savings account by its status and sub-status."""
    state = _SAVINGS_STATES.get(_number(_object(row, "status"), "id"), AccountState.OTHER)
    hold = row.get("subStatus")
    blocked = isinstance(hold, dict) and (hold.get("block") is True or hold.get("blockCredit") is True)
    return AccountState.BLOCKED if state is AccountState.ACTIVE and blocked else state


def _is_plain_savings(row: dict[str, Any]) -> bool:
    deposit = row.get("depositType")
    return not isinstance(deposit, dict) or whole_number(deposit.get("id")) in (None, _PLAIN_SAVINGS)


def read_hooks(body: Any) -> list[MifosHook]:
    """GET /hooks: the configuration comes back as a list of names and values."""
    hooks: list[MifosHook] = []
    for row in _rows(body, "hooks"):
        fields = _rows(row.get("config") or [], "config of a hook")
        url = next((text_of(entry.get("fieldValue")) for entry in fields if entry.get("fieldName") == "Payload URL"), None)
        events = _rows(row.get("events") or [], "events of a hook")
        hooks.append(
            MifosHook(
                id=_number(row, "id"),
                name=text_of(row.get("displayName")) or _text(row, "name"),
                url=url,
                active=row.get("isActive") is True,
                events=tuple(
                    (text_of(event.get("entityName")) or "", text_of(event.get("actionName")) or "") for event in events
                ),
            )
        )
    return hooks


def read_date(value: Any, what: str) -> date:
    """A calendar day, sent as [y, m, d] or as "yyyy-mm-dd"."""
    try:
        if isinstance(value, list):
            year, month, day = value
            return date(year, month, day)
        return date.fromisoformat(text_of(value) or "")
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{what} is {str(value)[:40]!r}, not a date [y, m, d]") from error


def _as_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"the {what} is a {type(value).__name__}, not an object")
    return value


def _object(row: dict[str, Any], key: str) -> dict[str, Any]:
    return _as_object(row.get(key), key)


def _rows(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InvalidInput(f"the {what} are a {type(value).__name__}, not a list")
    return [_as_object(row, f"row of the {what}") for row in value]


def _number(row: dict[str, Any], key: str) -> int:
    number = whole_number(row.get(key))
    if number is None:
        raise InvalidInput(f"{key} is {str(row.get(key))[:40]!r}, not a whole number")
    return number


def _text(row: dict[str, Any], key: str) -> str:
    text = text_of(row.get(key))
    if not text:
        raise InvalidInput(f"{key} is missing")
    return text


def _money(row: dict[str, Any], key: str) -> Money:
    return _amount(row.get(key), key)


def _amount(value: Any, what: str) -> Money:
    text = text_of(value)
    if text is None:
        raise InvalidInput(f"{what} is missing")
    try:
        return Money.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from error
