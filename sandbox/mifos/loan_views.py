"""Loans as reads show them."""

from datetime import date
from typing import Any

from sandbox.mifos.amounts import number
from sandbox.mifos.host import Loan, LoanTransaction, PaymentDetail
from sandbox.mifos.loan_state import Figures, figures, repayments
from sandbox.mifos.schedule_view import schedule_view
from sandbox.mifos.shapes import (
    CURRENCY,
    DAILY_INTEREST,
    LOAN,
    LOAN_DETAIL,
    LOAN_SUMMARY,
    LOAN_TRANSACTION_FLAGS,
    date_array,
    loan_status,
)
from sandbox.mifos.top_ups import top_up_view

_TRANSACTION_TYPES = {
    "disbursement": (1, "Disbursement"),
    "repayment": (2, "Repayment"),
    "accrual": (10, "Accrual"),
    "repaymentAtDisbursement": (5, "Repayment (at time of disbursement)"),
}
_WHO = {"Username": "mifos", "Firstname": "App", "Lastname": "Administrator"}


def loan_item(loan: Loan) -> dict[str, Any]:
    """A row of GET /loans. There is no summary below status 300, and never a phone number."""
    item: dict[str, Any] = {"id": loan.id, "accountNo": loan.account_no}
    if loan.external_id:
        item["externalId"] = loan.external_id
    item["status"] = loan_status(loan.status)
    item |= _owner(loan)
    item |= {
        "loanProductId": loan.product.id,
        "loanProductName": loan.product.name,
        "loanType": _loan_type(loan),
        "currency": CURRENCY,
        "principal": number(loan.principal_cents),
        "approvedPrincipal": number(loan.approved_cents),
        "proposedPrincipal": number(loan.proposed_cents),
        "netDisbursalAmount": number(loan.net_cents),
        "termFrequency": loan.months,
        "numberOfRepayments": loan.months,
        "interestRatePerPeriod": number(loan.product.monthly_rate_bp),
        "annualInterestRate": number(loan.product.monthly_rate_bp * 12),
        **LOAN,
        **top_up_view(loan),
        **({} if loan.first_repayment_on is None else {"expectedFirstRepaymentOnDate": date_array(loan.first_repayment_on)}),
        "timeline": _timeline(loan),
        "feeChargesAtDisbursementCharged": number(loan.fee_cents),
        "multiDisburseLoan": loan.product.multi_disburse,
        "delinquent": _delinquent(loan),
    }
    if loan.status >= 300:
        now = figures(loan)
        item |= {"summary": _summary(loan, now), "loanProductCounter": 1}
        if now.over_cents:
            item |= {"totalOverpaid": number(now.over_cents), "overpaidOnDate": _last_payment_day(loan)}
    return item


def loan_detail(loan: Loan, associations: frozenset[str]) -> dict[str, Any]:
    """GET /loans/{id}, with the `associations` that were asked for."""
    detail = loan_item(loan) | LOAN_DETAIL
    now = figures(loan)
    paid = now.principal_paid_cents + now.interest_paid_cents
    detail["paidInAdvance"] = {"paidInAdvance": number(paid) if paid else 0}
    everything = "all" in associations
    if loan.product.multi_disburse:
        detail["interestCalculationPeriodType"] = DAILY_INTEREST
        detail["maxOutstandingLoanBalance"] = number(500_000_00)
    scheduled = everything or "repaymentSchedule" in associations
    if scheduled or "multiDisburseDetails" in associations:
        detail["disbursementDetails"] = [_tranche(loan, place) for place in range(len(loan.tranches))]
    if scheduled and loan.status >= 200:
        detail |= {"repaymentSchedule": schedule_view(loan, now), "emiAmountVariations": []}
    if everything or "transactions" in associations:
        detail["transactions"] = [transaction_view(loan, each) for each in loan.transactions if not each.hidden]
    return detail


def transaction_view(loan: Loan, transaction: LoanTransaction) -> dict[str, Any]:
    """One transaction, wherever it is shown. `reversedOnDate` is there only when it is dead."""
    portions = figures(loan).by_transaction.get(transaction.id) if transaction.kind == "repayment" else None
    fee = transaction.amount_cents if transaction.kind == "repaymentAtDisbursement" else 0
    interest = transaction.amount_cents if transaction.kind == "accrual" else portions.interest_cents if portions else 0
    view: dict[str, Any] = {"id": transaction.id, "loanId": loan.id}
    if loan.external_id:
        view["externalLoanId"] = loan.external_id
    view |= {"officeId": 1, "officeName": "Head Office", "type": _transaction_type(transaction.kind)}
    view |= {"date": date_array(transaction.on), "currency": CURRENCY}
    if transaction.detail is not None:
        view["paymentDetailData"] = payment_detail_view(transaction.id, transaction.detail)
    view |= {
        "amount": number(transaction.amount_cents),
        "netDisbursalAmount": number(loan.net_cents),
        "principalPortion": number(portions.principal_cents) if portions else 0,
        "interestPortion": number(interest) if portions or interest else 0,
        "feeChargesPortion": number(fee) if fee else 0,
        "penaltyChargesPortion": 0,
        "overpaymentPortion": number(portions.over_cents) if portions and portions.over_cents else 0,
        "unrecognizedIncomePortion": 0,
    }
    if transaction.external_id:
        view["externalId"] = transaction.external_id
    view |= {
        "outstandingLoanBalance": 0 if transaction.kind == "accrual" else number(_balance_after(loan, transaction)),
        "submittedOnDate": date_array(transaction.submitted_on),
        "manuallyReversed": transaction.manually_reversed,
        "loanChargePaidByList": [_charge_paid(transaction)] if fee else [],
        "numberOfRepayments": 0,
    }
    if transaction.reversed_on is not None:
        view["reversedOnDate"] = date_array(transaction.reversed_on)
    return view | {"transactionRelations": []}


def payment_detail_view(number_: int, detail: PaymentDetail) -> dict[str, Any]:
    """How it was paid; texts that were not given are empty."""
    view: dict[str, Any] = {"id": number_}
    if detail.payment_type is not None:
        kind = detail.payment_type
        view["paymentType"] = {"id": kind.id, "name": kind.name, "isSystemDefined": kind.is_system}
    return view | {
        "accountNumber": detail.account_number,
        "checkNumber": detail.check_number,
        "routingCode": detail.routing_code,
        "receiptNumber": detail.receipt_number,
        "bankNumber": detail.bank_number,
    }


def _owner(loan: Loan) -> dict[str, Any]:
    if loan.client is None:
        return {"group": {"id": loan.id, "name": loan.group_name or "Group", "officeId": 1}}
    owner: dict[str, Any] = {
        "clientId": loan.client.id,
        "clientAccountNo": loan.client.account_no,
        "clientName": loan.client.display_name,
        "clientOfficeId": 1,
    }
    if loan.client.external_id:
        owner["clientExternalId"] = loan.client.external_id
    return owner


def _loan_type(loan: Loan) -> dict[str, Any]:
    if loan.client is None:
        return {"id": 2, "code": "accountType.group", "value": "Group"}
    return {"id": 1, "code": "accountType.individual", "value": "Individual"}


def _act(verb: str, day: date | None, key: str) -> dict[str, Any]:
    if day is None:
        return {}
    return {key: date_array(day), **{f"{verb}By{name}": value for name, value in _WHO.items()}}


def _timeline(loan: Loan) -> dict[str, Any]:
    timeline = _act("submitted", loan.submitted_on, "submittedOnDate")
    timeline |= _act("approved", loan.approved_on, "approvedOnDate")
    timeline["expectedDisbursementDate"] = date_array(loan.expected_on)
    timeline |= _act("disbursed", loan.disbursed_on, "actualDisbursementDate")
    maturity = date_array(figures(loan).rows[-1].due_day)
    return timeline | ({} if loan.status in (600, 700) else {"actualMaturityDate": maturity}) | {"expectedMaturityDate": maturity}


def _delinquent(loan: Loan) -> dict[str, Any]:
    zero = dict.fromkeys(("pastDueDays", "delinquentDays", "delinquentAmount", "lastPaymentAmount", "lastRepaymentAmount"), 0)
    zero |= dict.fromkeys(("delinquentPrincipal", "delinquentInterest", "delinquentFee", "delinquentPenalty"), 0)
    view: dict[str, Any] = {"availableDisbursementAmount": 0, **zero}
    if loan.status < 300:
        return view
    out = sum(tranche.principal_cents for tranche in loan.tranches if tranche.disbursed_on is not None)
    view |= {"availableDisbursementAmount": number(loan.approved_cents - out), "delinquencyPausePeriods": []}
    view["nextPaymentDueDate"] = date_array(_next_due(loan))
    for kind in ("Payment", "Repayment") if repayments(loan) else ():
        last = repayments(loan)[-1]
        view |= {f"last{kind}Date": date_array(last.on), f"last{kind}Amount": number(last.amount_cents)}
    return view


def _next_due(loan: Loan) -> date:
    """The day of the first instalment still open; of a loan that is paid, the day of the payment that did it."""
    now = figures(loan)
    for row, paid in zip(now.rows, now.by_row, strict=True):
        if paid.principal_cents + paid.interest_cents < row.principal_cents + row.interest_cents:
            return row.due_day
    return repayments(loan)[-1].on


def _charge_paid(transaction: LoanTransaction) -> dict[str, Any]:
    amount = number(transaction.amount_cents)
    return {"id": transaction.id, "amount": amount, "chargeId": 1, "transactionId": transaction.id, "name": "Disbursement fee"}


def _summary(loan: Loan, now: Figures) -> dict[str, Any]:
    paid = now.principal_paid_cents + now.interest_paid_cents + loan.fee_cents
    expected = loan.principal_cents + now.interest_cents + loan.fee_cents
    return {
        "currency": CURRENCY,
        **LOAN_SUMMARY,
        "principalDisbursed": number(loan.principal_cents),
        "principalPaid": number(now.principal_paid_cents),
        "principalOutstanding": number(loan.principal_cents - now.principal_paid_cents),
        "interestCharged": number(now.interest_cents),
        "interestPaid": number(now.interest_paid_cents),
        "interestOutstanding": number(now.interest_cents - now.interest_paid_cents),
        "feeChargesCharged": number(loan.fee_cents),
        "feeChargesDueAtDisbursementCharged": number(loan.fee_cents),
        "feeChargesPaid": number(loan.fee_cents),
        "totalExpectedRepayment": number(expected),
        "totalRepayment": number(paid),
        "totalExpectedCostOfLoan": number(now.interest_cents + loan.fee_cents),
        "totalCostOfLoan": number(now.interest_paid_cents + loan.fee_cents),
        "totalOutstanding": number(now.outstanding_cents),
        "totalRepaymentTransaction": number(sum(each.amount_cents for each in repayments(loan))),
    }


def _last_payment_day(loan: Loan) -> list[int]:
    return date_array(repayments(loan)[-1].on)


def _tranche(loan: Loan, place: int) -> dict[str, Any]:
    tranche = loan.tranches[place]
    view: dict[str, Any] = {"id": tranche.id, "expectedDisbursementDate": date_array(tranche.expected_on)}
    if tranche.disbursed_on is not None:
        view["actualDisbursementDate"] = date_array(tranche.disbursed_on)
    return view | {"principal": number(tranche.principal_cents), "netDisbursalAmount": number(loan.approved_cents)}


def _transaction_type(kind: str) -> dict[str, Any]:
    type_id, value = _TRANSACTION_TYPES[kind]
    return {"id": type_id, "code": f"loanTransactionType.{kind}", "value": value, **LOAN_TRANSACTION_FLAGS, kind: True}


def _balance_after(loan: Loan, transaction: LoanTransaction) -> int:
    """The principal outstanding once `transaction` was booked."""
    if transaction.kind == "repaymentAtDisbursement":
        return loan.principal_cents
    by_transaction = figures(loan).by_transaction
    paid = sum(portions.principal_cents for id_, portions in by_transaction.items() if id_ <= transaction.id)
    out = sum(
        each.amount_cents
        for each in loan.transactions
        if each.kind == "disbursement" and each.id <= transaction.id and (each.reversed_on is None or each is transaction)
    )
    return out - paid
