"""Savings accounts: the read, the deposit, and its undoing."""

from datetime import date
from typing import Any

from sandbox.mifos.amounts import number
from sandbox.mifos.errors import Fault, domain_rule, integrity, validation
from sandbox.mifos.host import MifosHost, PaymentDetail, Savings, SavingsTransaction, User
from sandbox.mifos.loan_views import payment_detail_view
from sandbox.mifos.payload import PAYMENT_TEXTS, Payload
from sandbox.mifos.shapes import (
    SAVINGS,
    SAVINGS_DEPOSIT_TYPE,
    SAVINGS_TRANSACTION,
    currency_view,
    date_array,
    savings_status,
    savings_sub_status,
)

_DEPOSIT = {"transactionDate", "transactionAmount", "locale", "dateFormat", "note", "paymentTypeId", *PAYMENT_TEXTS}


def refuse_unknown_keys(host: MifosHost, body: dict[str, Any]) -> None:
    """Unknown keys are refused before the account is looked for, as on the real server."""
    Payload(body, "savingsaccount.transaction").only(_known_keys(host))


def _known_keys(host: MifosHost) -> set[str]:
    return {*_DEPOSIT, "externalId"} if host.savings_external_ids else _DEPOSIT


def deposit(host: MifosHost, account: Savings, user: User, body: dict[str, Any], today: date) -> dict[str, Any]:
    """Books a deposit. The payment type is mandatory here; external ids are refused but on the newest servers."""
    payload = Payload(body, "savingsaccount.transaction")
    payload.only(_known_keys(host))
    day = payload.day("transactionDate")
    cents = payload.cents("transactionAmount")
    payload.required("paymentTypeId")
    if any(name in body for name in PAYMENT_TEXTS):
        payload.required("paymentTypeId")  # the server checks again, and complains again
    payload.texts()
    payload.check()
    detail = payload.detail(host)
    _check_deposit(account, day or today, today)
    external_id = body.get("externalId")
    if external_id is not None and external_id in host.savings_transaction_external_ids:
        text = f"Savings account transaction with externalId `{external_id}` already exists"
        code = "error.msg.savingsaccount.transaction.duplicate.externalId"
        raise integrity(Fault(text, code, "externalId", (external_id,)))
    if external_id is not None:
        host.savings_transaction_external_ids.add(external_id)
    transaction = SavingsTransaction(
        id=host.next_id("savings transaction"),
        amount_cents=cents,
        on=day or today,
        submitted_on=today,
        balance_cents=account.balance_cents + cents,
        detail=detail or PaymentDetail(None),
        note=str(body.get("note") or ""),
        user_name=user.name,
        external_id=external_id,
    )
    account.transactions.append(transaction)
    return _result(account, transaction) | {"changes": payload.echo(*PAYMENT_TEXTS, "paymentTypeId")}


def undo(account: Savings, transaction_id: int) -> dict[str, Any]:
    """Undoes one transaction."""
    transaction = next(each for each in account.transactions if each.id == transaction_id)
    transaction.reversed = True
    return _result(account, transaction)


def savings_view(account: Savings, *, transactions: bool) -> dict[str, Any]:
    """GET /savingsaccounts/{id}; the newest transaction comes first."""
    view: dict[str, Any] = {"id": account.id, "accountNo": account.account_no, "depositType": SAVINGS["depositType"]}
    if account.external_id:
        view["externalId"] = account.external_id
    day = date_array(account.opened_on)
    who = {"Username": "mifos", "Firstname": "App", "Lastname": "Administrator"}
    timeline: dict[str, Any] = {}
    for act in ("submitted", "approved", "activated"):
        timeline |= {f"{act}OnDate": day, **{f"{act}By{name}": value for name, value in who.items()}}
    live = [each for each in account.transactions if not each.reversed]
    view |= {
        "clientId": account.client.id,
        "clientName": account.client.display_name,
        "savingsProductId": 1,
        "savingsProductName": account.product_name,
        **SAVINGS,
        "status": savings_status(account.status),
        "subStatus": savings_sub_status(blocked=account.blocked),
        "timeline": timeline,
        "currency": currency_view(account.currency),
        "summary": {
            "currency": currency_view(account.currency),
            "totalDeposits": number(account.balance_cents),
            "totalInterestEarned": number(0),
            "totalInterestPosted": 0,
            "accountBalance": number(account.balance_cents),
            "totalOverdraftInterestDerived": 0,
            "interestNotPosted": number(0),
            "availableBalance": number(account.balance_cents),
        },
    }
    if live:
        view["lastActiveTransactionDate"] = date_array(live[-1].on)
    if transactions and account.transactions:
        view["transactions"] = [transaction_view(account, each) for each in reversed(account.transactions)]
    return view


def transaction_view(account: Savings, transaction: SavingsTransaction) -> dict[str, Any]:
    """One deposit."""
    view = {
        "id": transaction.id,
        "transactionType": SAVINGS_DEPOSIT_TYPE,
        "accountId": account.id,
        "accountNo": account.account_no,
        "date": date_array(transaction.on),
        "currency": currency_view(account.currency),
        "paymentDetailData": payment_detail_view(transaction.id, transaction.detail),
        "amount": number(transaction.amount_cents),
        "runningBalance": number(transaction.balance_cents),
        "reversed": transaction.reversed,
        "submittedOnDate": date_array(transaction.submitted_on),
        "submittedByUsername": transaction.user_name,
        **SAVINGS_TRANSACTION,
    }
    if transaction.note:
        view["note"] = transaction.note
    if transaction.external_id:
        view["externalId"] = transaction.external_id
    return view


def _check_deposit(account: Savings, day: date, today: date) -> None:
    if account.status != 300:
        text = "Transaction is not allowed. Account is not active."
        code = "error.msg.savingsaccount.transaction.account.is.not.active"
        raise validation(Fault(text, code, "transactionDate", (day.isoformat(),)))
    if account.blocked:
        text = "Any Credit transactions to Savings account not allowed, since the account is blocked for credits"
        raise domain_rule(Fault(text, "error.msg.saving.account.blocked.for.credits.transaction.not.allowed"))
    if day > today:
        text = "Transaction date cannot be in the future."
        raise validation(Fault(text, "error.msg.savingsaccount.transaction.in.the.future", "transactionDate", (day.isoformat(),)))


def _result(account: Savings, transaction: SavingsTransaction) -> dict[str, Any]:
    return {"officeId": 1, "clientId": account.client.id, "savingsId": account.id, "resourceId": transaction.id}
