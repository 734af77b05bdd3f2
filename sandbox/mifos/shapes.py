"""The parts of Fineract's answers that never change here, taken from captures of a real server (shapes.json)."""

import json
from datetime import date
from pathlib import Path
from typing import Any

_SHAPES: dict[str, Any] = json.loads((Path(__file__).parent / "shapes.json").read_text())

CURRENCY: dict[str, Any] = _SHAPES["currency"]
LOAN: dict[str, Any] = _SHAPES["loan"]
LOAN_DETAIL: dict[str, Any] = _SHAPES["loan_detail"]
DAILY_INTEREST = {"id": 0, "code": "interestCalculationPeriodType.daily", "value": "Daily"}
LOAN_SUMMARY: dict[str, Any] = _SHAPES["summary"]
LOAN_PERIOD: dict[str, Any] = _SHAPES["period"]
LOAN_TRANSACTION_FLAGS: dict[str, bool] = _SHAPES["loan_transaction_flags"]
PRODUCT: dict[str, Any] = _SHAPES["product"]
SAVINGS: dict[str, Any] = _SHAPES["savings"]
SAVINGS_TRANSACTION: dict[str, Any] = _SHAPES["savings_transaction"]
SAVINGS_DEPOSIT_TYPE: dict[str, Any] = _SHAPES["savings_deposit_type"]

_LOAN_FLAGS = (
    "pendingApproval",
    "waitingForDisbursal",
    "active",
    "closedObligationsMet",
    "closedWrittenOff",
    "closedRescheduled",
    "closed",
    "overpaid",
)
_LOAN_STATUSES = {
    100: ("submitted.and.pending.approval", "Submitted and pending approval", {"pendingApproval"}),
    200: ("approved", "Approved", {"waitingForDisbursal"}),
    300: ("active", "Active", {"active"}),
    400: ("withdrawn.by.client", "Withdrawn by applicant", set()),
    500: ("rejected", "Rejected", set()),
    600: ("closed.obligations.met", "Closed (obligations met)", {"closedObligationsMet", "closed"}),
    700: ("overpaid", "Overpaid", {"overpaid"}),
}
_SAVINGS_FLAGS = (
    "submittedAndPendingApproval",
    "approved",
    "rejected",
    "withdrawnByApplicant",
    "active",
    "closed",
    "prematureClosed",
    "transferInProgress",
    "transferOnHold",
    "matured",
)
_SAVINGS_STATUSES = {
    100: ("submitted.and.pending.approval", "Submitted and pending approval", "submittedAndPendingApproval"),
    200: ("approved", "Approved", "approved"),
    300: ("active", "Active", "active"),
    600: ("closed", "Closed", "closed"),
}


def date_array(day: date) -> list[int]:
    """A date as reads give it."""
    return [day.year, day.month, day.day]


def loan_status(status: int) -> dict[str, Any]:
    """The status object of a loan."""
    code, value, flags = _LOAN_STATUSES[status]
    return {"id": status, "code": f"loanStatusType.{code}", "value": value, **{flag: flag in flags for flag in _LOAN_FLAGS}}


def currency_view(code: str) -> dict[str, Any]:
    """The currency object of `code`; one that is not KES goes by its code alone."""
    own = () if code == CURRENCY["code"] else ("code", "name", "displaySymbol", "displayLabel")
    return CURRENCY | dict.fromkeys(own, code)


def savings_sub_status(*, blocked: bool) -> dict[str, Any]:
    """The sub-status object of a savings account, which may be blocked for credits."""
    plain: dict[str, Any] = SAVINGS["subStatus"]
    if not blocked:
        return plain
    return plain | {
        "id": 500,
        "code": "SavingsAccountSubStatusEnum.blockCredit",
        "value": "BlockCredit",
        "none": False,
        "blockCredit": True,
    }


def savings_status(status: int) -> dict[str, Any]:
    """The status object of a savings account."""
    code, value, flag = _SAVINGS_STATUSES[status]
    flags = {name: name == flag for name in _SAVINGS_FLAGS}
    return {"id": status, "code": f"savingsAccountStatusType.{code}", "value": value, **flags}
