"""What a loan owes, and the status that follows from it."""

from dataclasses import dataclass

from sandbox.mifos.host import Loan, LoanTransaction
from sandbox.mifos.schedule import Instalment, Portions, schedule, spread


@dataclass(frozen=True, slots=True)
class Figures:
    """The money of a disbursed loan, in cents."""

    rows: list[Instalment]
    by_row: list[Portions]
    by_transaction: dict[int, Portions]
    interest_cents: int
    interest_paid_cents: int
    principal_paid_cents: int
    over_cents: int

    @property
    def outstanding_cents(self) -> int:
        """Principal and interest still to be paid (fees at disbursement are paid at once)."""
        principal = sum(row.principal_cents for row in self.rows)
        return principal + self.interest_cents - self.principal_paid_cents - self.interest_paid_cents


def repayments(loan: Loan) -> list[LoanTransaction]:
    """The repayments that stand."""
    return [each for each in loan.transactions if each.kind == "repayment" and each.reversed_on is None]


def figures(loan: Loan) -> Figures:
    """The figures of a loan that was disbursed."""
    start = loan.disbursed_on or loan.expected_on
    rows = schedule(loan.principal_cents, loan.months, loan.product.monthly_rate_bp, start)
    paid = repayments(loan)
    by_payment, by_row = spread(rows, [each.amount_cents for each in paid])
    return Figures(
        rows=rows,
        by_row=by_row,
        by_transaction={each.id: portions for each, portions in zip(paid, by_payment, strict=True)},
        interest_cents=sum(row.interest_cents for row in rows),
        interest_paid_cents=sum(each.interest_cents for each in by_row),
        principal_paid_cents=sum(each.principal_cents for each in by_row),
        over_cents=sum(each.over_cents for each in by_payment),
    )


def settle_status(loan: Loan) -> None:
    """Active, closed or overpaid, by what is owed."""
    now = figures(loan)
    if now.over_cents:
        loan.status = 700
    elif now.outstanding_cents == 0:
        loan.status = 600
    else:
        loan.status = 300
