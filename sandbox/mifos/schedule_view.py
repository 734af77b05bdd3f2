"""The repayment schedule of a loan as reads show it."""

from typing import Any

from sandbox.mifos.amounts import number
from sandbox.mifos.host import Loan
from sandbox.mifos.loan_state import Figures
from sandbox.mifos.shapes import CURRENCY, LOAN_PERIOD, date_array


def schedule_view(loan: Loan, now: Figures) -> dict[str, Any]:
    """`repaymentSchedule`: the disbursal, then one period an instalment."""
    periods: list[dict[str, Any]] = [_first_period(loan)]
    balance = loan.principal_cents
    for row, paid in zip(now.rows, now.by_row, strict=True):
        balance -= row.principal_cents
        due, settled = row.principal_cents + row.interest_cents, paid.principal_cents + paid.interest_cents
        periods.append(
            LOAN_PERIOD
            | {
                "period": row.number,
                "fromDate": date_array(row.from_day),
                "dueDate": date_array(row.due_day),
                "complete": due == settled,
                "daysInPeriod": (row.due_day - row.from_day).days,
                "principalOriginalDue": number(row.principal_cents),
                "principalDue": number(row.principal_cents),
                "principalPaid": number(paid.principal_cents) if paid.principal_cents else 0,
                "principalOutstanding": number(row.principal_cents - paid.principal_cents),
                "principalLoanBalanceOutstanding": number(balance),
                "interestOriginalDue": number(row.interest_cents),
                "interestDue": number(row.interest_cents),
                "interestPaid": number(paid.interest_cents) if paid.interest_cents else 0,
                "interestOutstanding": number(row.interest_cents - paid.interest_cents),
                "totalOriginalDueForPeriod": number(due),
                "totalDueForPeriod": number(due),
                "totalPaidForPeriod": number(settled) if settled else 0,
                "totalPaidInAdvanceForPeriod": number(settled) if settled else 0,
                "totalPaidLateForPeriod": 0,
                "totalOutstandingForPeriod": number(due - settled),
                "totalActualCostOfLoanForPeriod": number(row.interest_cents),
                "totalInstallmentAmountForPeriod": number(due),
            }
        )
    expected = loan.principal_cents + now.interest_cents + loan.fee_cents
    return {
        "currency": CURRENCY,
        "loanTermInDays": (now.rows[-1].due_day - now.rows[0].from_day).days,
        "totalPrincipalDisbursed": number(loan.principal_cents),
        "totalPrincipalExpected": number(loan.principal_cents),
        "totalPrincipalPaid": number(now.principal_paid_cents),
        "totalInterestCharged": number(now.interest_cents),
        "totalFeeChargesCharged": number(loan.fee_cents),
        **{f"total{name}": number(0) for name in ("PenaltyChargesCharged", "Waived", "WrittenOff", "PaidLate", "Credits")},
        "totalRepayment": number(now.principal_paid_cents + now.interest_paid_cents + loan.fee_cents),
        "totalPaidInAdvance": number(now.principal_paid_cents + now.interest_paid_cents),
        "totalRepaymentExpected": number(expected),
        "totalOutstanding": number(now.outstanding_cents),
        "periods": periods,
    }


def _first_period(loan: Loan) -> dict[str, Any]:
    fee = number(loan.fee_cents)
    return {
        "dueDate": date_array(loan.disbursed_on or loan.expected_on),
        "principalDisbursed": number(loan.principal_cents),
        "principalLoanBalanceOutstanding": number(loan.principal_cents),
        "feeChargesDue": fee,
        "feeChargesPaid": fee,
        "totalOriginalDueForPeriod": fee,
        "totalDueForPeriod": fee,
        "totalPaidForPeriod": fee,
        "totalActualCostOfLoanForPeriod": fee,
        "totalCredits": 0,
        "totalAccruedInterest": 0,
        "downPaymentPeriod": False,
    }
