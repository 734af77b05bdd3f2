"""What can be done to a loan: approve, disburse, undo, repay, reverse.

Each raises RefusalError, or changes the loan and returns what the server reports.
"""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

from sandbox.mifos.amounts import cents_of, decimal_of, number, plain
from sandbox.mifos.closed_days import check_open_day
from sandbox.mifos.errors import Fault, domain_rule, validation
from sandbox.mifos.host import Loan, LoanTransaction, MifosHost, Tranche
from sandbox.mifos.loan_checks import check_disbursal, check_new_external_id, check_repayment_day, external_id
from sandbox.mifos.loan_state import figures, settle_status
from sandbox.mifos.payload import PAYMENT_TEXTS, Payload
from sandbox.mifos.shapes import date_array, loan_status
from sandbox.mifos.top_ups import kept_back_cents, pay_off, payoff_cents

Result = dict[str, Any]
LoanCommand = Callable[[MifosHost, Loan, dict[str, Any], date], Result]

_COMMON = ("locale", "dateFormat", "note", "paymentTypeId", *PAYMENT_TEXTS)
_DISBURSE = {
    *_COMMON,
    "actualDisbursementDate",
    "transactionAmount",
    "netDisbursalAmount",
    "fixedEmiAmount",
    "adjustRepaymentDate",
    "postDatedChecks",
}
_REPAY = {*_COMMON, "transactionDate", "transactionAmount"}
_APPROVE = {
    "approvedOnDate",
    "approvedLoanAmount",
    "expectedDisbursementDate",
    "disbursementData",
    "note",
    "locale",
    "dateFormat",
}


class UnhandledError(Exception):
    """What ends in a 500: the text is what a replay of the key shows."""


def approve(host: MifosHost, loan: Loan, body: dict[str, Any], today: date) -> Result:
    """100 to 200. The answer already holds the payout amount."""
    payload = Payload(body, "loan")
    payload.only(_APPROVE)
    day = payload.day("approvedOnDate")
    amount = payload.amount("approvedLoanAmount", required=False)
    payload.check()
    if loan.status != 100:
        raise validation(
            Fault(
                "Loan Account is not in submitted and pending approval state",
                "error.msg.loan.approve.account.is.not.submitted.and.pending.state",
            )
        )
    if day is not None and day > today:
        raise domain_rule(
            Fault(
                "The date on which a loan is approved cannot be in the future.",
                "error.msg.loan.approval.cannot.be.a.future.date",
                "id",
                (day.isoformat(),),
            )
        )
    loan.status, loan.approved_on = 200, day
    loan.approved_cents = loan.principal_cents = cents_of(amount) if amount is not None else loan.proposed_cents
    loan.net_cents = loan.approved_cents - kept_back_cents(host, loan)
    if body.get("expectedDisbursementDate"):
        loan.expected_on = date.fromisoformat(str(body["expectedDisbursementDate"]))
    _plan_tranches(host, loan, body)
    changes: Result = {
        "principal": plain(amount if amount is not None else Decimal(loan.approved_cents) / 100),
        "expectedDisbursementDate": date_array(loan.expected_on),
        "dateFormat": body.get("dateFormat"),
        "approvedOnDate": body.get("approvedOnDate"),
        "netDisbursalAmount": number(loan.net_cents),
        **_tranche_changes(loan),
        "locale": body.get("locale"),
        "approvedLoanAmount": plain(amount if amount is not None else Decimal(loan.approved_cents) / 100),
        "status": loan_status(200),
    }
    return _result(loan, changes)


def undo_approval(_host: MifosHost, loan: Loan, _body: dict[str, Any], _today: date) -> Result:
    """200 back to 100."""
    if loan.status != 200:
        raise validation(
            Fault("Loan Account Undo Approval is not allowed.", "error.msg.loan.undo.approval.account.is.not.approved.state")
        )
    loan.status, loan.approved_on = 100, None
    return _result(loan, {"status": loan_status(100), "approvedOnDate": ""})


def disburse(host: MifosHost, loan: Loan, body: dict[str, Any], today: date) -> Result:
    """200 to 300. A tranche loan has no guard against a disbursal too many, as the real server has none."""
    payload = Payload(body, "loan.disbursement")
    payload.only({*_DISBURSE, "externalId"} if host.takes_external_ids else _DISBURSE)
    day = payload.day("actualDisbursementDate")
    amount = payload.amount("transactionAmount", required=False)
    payload.texts()
    payload.check()
    allowed = (200, 300) if loan.product.multi_disburse else (200,)
    if loan.status not in allowed:
        text = "Loan Disbursal is not allowed. Loan Account is not in approved and not disbursed state."
        raise validation(Fault(text, "error.msg.loan.disbursal.account.is.not.approve.not.disbursed.state"))
    detail = payload.detail(host)
    cents = cents_of(amount) if amount is not None else _planned(loan)
    check_disbursal(loan, day or today, today, cents, body)
    check_open_day(host, loan, day or today)
    check_new_external_id(host, body, disbursal=True)
    first = loan.status == 200
    payoff = payoff_cents(host, loan, cents, body) if first else 0
    if payoff:
        pay_off(host, loan, payoff, day or today, today)
    fee_id = host.next_id("transaction") if loan.fee_cents and first else None
    transaction = LoanTransaction(
        host.next_id("transaction"), "disbursement", cents - payoff, day or today, today, external_id(body), detail
    )
    _book(host, loan, transaction)
    if fee_id is not None:
        loan.transactions.append(LoanTransaction(fee_id, "repaymentAtDisbursement", loan.fee_cents, day or today, today))
    _move_principal(loan, cents, day or today, first=first)
    if first:
        loan.net_cents = cents - loan.fee_cents - payoff
        interest = figures(loan).interest_cents
        loan.transactions.append(LoanTransaction(host.next_id("transaction"), "accrual", interest, day or today, today))
    changes = payload.echo(*PAYMENT_TEXTS, "paymentTypeId", "locale", "dateFormat", "actualDisbursementDate")
    changes |= {"status": loan_status(300), **payload.echo("note")}
    return _result(loan, changes, sub_resource=None if host.legacy else transaction)


def undo_disbursal(host: MifosHost, loan: Loan, body: dict[str, Any], today: date) -> Result:
    """300 (or paid) back to 200. Accepted although repayments exist; all transactions die, their external ids stay burnt."""
    if loan.status not in (300, 600, 700):
        raise validation(
            Fault(
                "Loan Account Undo disbursal is not allowed. Loan Account is not active.",
                "error.msg.loan.undo.disbursal.account.is.not.active.state",
            )
        )
    if loan.topup_of is not None and loan.status == 300:
        text = "Loan Undo disbursal is not allowed on Topup Loans"
        raise validation(Fault(text, "error.msg.loan.undo.disbursal.not.allowed.on.topup.loan"))
    for transaction in loan.transactions:
        if transaction.reversed_on is None:
            transaction.reversed_on, transaction.hidden = today, True
    loan.status, loan.disbursed_on = 200, None
    loan.principal_cents = loan.approved_cents
    loan.net_cents = loan.approved_cents - kept_back_cents(host, loan)
    for tranche in loan.tranches:
        tranche.disbursed_on = None
    note = {"note": body["note"]} if body.get("note") else {}
    return _result(loan, {"status": loan_status(200), "actualDisbursementDate": "", **note})


def undo_last_disbursal(_host: MifosHost, loan: Loan, body: dict[str, Any], today: date) -> Result:
    """Takes back the last tranche. On a loan with a disbursal too many it fails inside, as the real server does."""
    live = [each for each in loan.transactions if each.kind == "disbursement" and each.reversed_on is None]
    done = [tranche for tranche in loan.tranches if tranche.disbursed_on is not None]
    if not done or len(live) > len(done):
        raise UnhandledError(
            'Cannot invoke "org.apache.fineract.portfolio.loanaccount.domain.LoanDisbursementDetails.principal()"'
            ' because "disbursementDetail" is null'
        )
    last, tranche = live[-1], done[-1]
    for dead in (last, *(each for each in loan.transactions if each.kind == "accrual")):
        dead.reversed_on, dead.hidden = today, True
    loan.tranches.remove(tranche)
    loan.principal_cents -= last.amount_cents
    note = {"note": body["note"]} if body.get("note") else {}
    return _result(loan, {"undolastdisbursal": "true", "disbursedAmount": number(loan.principal_cents), **note})


def refuse_unknown_keys(host: MifosHost, body: dict[str, Any]) -> None:
    """Unknown keys of a repayment are refused before the loan is looked for, as on the real server."""
    Payload(body, "loan.transaction").only({*_REPAY, "externalId"} if host.takes_external_ids else _REPAY)


def repay(host: MifosHost, loan: Loan, body: dict[str, Any], today: date) -> Result:
    """Books a repayment; too much is taken and makes the loan overpaid."""
    refuse_unknown_keys(host, body)
    payload = Payload(body, "loan.transaction")
    day = payload.day("transactionDate")
    cents = payload.cents("transactionAmount")
    payload.texts()
    payload.check()
    if loan.status not in (300, 600, 700):
        text = "Loan must be Active, Fully Paid or Overpaid"
        raise validation(Fault(text, "error.msg.loan.must.be.active.fully.paid.or.overpaid"))
    detail = payload.detail(host)
    check_repayment_day(loan, day or today, today)
    check_new_external_id(host, body, disbursal=False)
    transaction = LoanTransaction(host.next_id("transaction"), "repayment", cents, day or today, today, external_id(body), detail)
    _book(host, loan, transaction)
    settle_status(loan)
    changes = {"transactionDate": body["transactionDate"], "transactionAmount": str(body["transactionAmount"])}
    changes |= payload.echo("locale", "dateFormat", "paymentTypeId", "note", "externalId", *PAYMENT_TEXTS)
    return _transaction_result(host, loan, transaction, changes)


def reverse(host: MifosHost, loan: Loan, body: dict[str, Any], today: date, *, transaction_id: int) -> Result:
    """Undoes one repayment (an adjustment to zero). Its external id stays burnt."""
    transaction = next(each for each in loan.transactions if each.id == transaction_id)
    transaction.reversed_on, transaction.manually_reversed = today, True
    settle_status(loan)
    changes = {"transactionDate": body.get("transactionDate"), "transactionAmount": str(body.get("transactionAmount", 0))}
    changes |= {name: body[name] for name in ("locale", "dateFormat") if name in body}
    return _transaction_result(host, loan, transaction, changes)


def _plan_tranches(host: MifosHost, loan: Loan, body: dict[str, Any]) -> None:
    plan = body.get("disbursementData")
    if loan.product.multi_disburse and plan:
        loan.tranches = [
            Tranche(
                host.next_id("tranche"),
                date.fromisoformat(str(row["expectedDisbursementDate"])),
                cents_of(decimal_of(row["principal"]) or Decimal(0)),
            )
            for row in plan
        ]


def _tranche_changes(loan: Loan) -> Result:
    """The server writes every tranche under the same key: the last one stays."""
    if not loan.tranches:
        return {}
    last = loan.tranches[-1]
    return {"recalculateLoanSchedule": True, "disbursementData": f"{last.expected_on}-{last.principal_cents // 100}"}


def _planned(loan: Loan) -> int:
    """What is disbursed when the body names no amount."""
    open_tranches = [tranche for tranche in loan.tranches if tranche.disbursed_on is None]
    return open_tranches[0].principal_cents if open_tranches else loan.approved_cents


def _book(host: MifosHost, loan: Loan, transaction: LoanTransaction) -> None:
    loan.transactions.append(transaction)
    if transaction.external_id is not None:
        host.transaction_external_ids[transaction.external_id] = (loan.id, transaction)


def _move_principal(loan: Loan, cents: int, day: date, *, first: bool) -> None:
    loan.status = 300
    tranche = next((each for each in loan.tranches if each.disbursed_on is None), None)
    if first:
        loan.principal_cents, loan.disbursed_on = cents, day
    elif tranche is not None:
        loan.principal_cents += cents
        loan.net_cents = cents
    else:
        loan.net_cents = cents  # a disbursal too many: booked, and principalDisbursed does not move
    if tranche is not None:
        tranche.disbursed_on = day


def _owner(loan: Loan) -> Result:
    return {"officeId": 1, **({"clientId": loan.client.id} if loan.client else {"groupId": loan.id}), "loanId": loan.id}


def _result(loan: Loan, changes: Result, sub_resource: LoanTransaction | None = None) -> Result:
    result = {**_owner(loan), "resourceId": loan.id}
    if sub_resource is not None:
        result["subResourceId"] = sub_resource.id
    result["changes"] = changes
    if loan.external_id:
        result["resourceExternalId"] = loan.external_id
    if sub_resource is not None and sub_resource.external_id:
        result["subResourceExternalId"] = sub_resource.external_id
    return result


def _transaction_result(host: MifosHost, loan: Loan, transaction: LoanTransaction, changes: Result) -> Result:
    result = {**_owner(loan), "resourceId": transaction.id, "changes": changes}
    if transaction.external_id and not host.legacy:
        result["resourceExternalId"] = transaction.external_id
    return result
