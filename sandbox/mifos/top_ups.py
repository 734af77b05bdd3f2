"""Top-up loans: the disbursal pays off an older loan of the client, so that less reaches the client than the principal."""

from datetime import date

from sandbox.mifos.host import Loan, LoanTransaction, MifosHost
from sandbox.mifos.loan_state import figures, settle_status


def kept_back_cents(host: MifosHost, loan: Loan) -> int:
    """What of the principal the client does not get: charges due at disbursement, and what the older loan still owes.

    A server that does not net top-ups before their disbursal tells nothing of the second.
    """
    older = _older(host, loan) if host.nets_top_ups else None
    owed = figures(older).outstanding_cents if older is not None and older.status == 300 else 0
    return loan.fee_cents + owed


def pay_off_older(host: MifosHost, loan: Loan, day: date, today: date) -> None:
    """Books the repayment that closes the older loan: a transfer between the two, without a payment's details."""
    older = _older(host, loan)
    if older is None or older.status != 300:
        return
    cents = figures(older).outstanding_cents
    older.transactions.append(LoanTransaction(host.next_id("transaction"), "repayment", cents, day, today))
    settle_status(older)


def _older(host: MifosHost, loan: Loan) -> Loan | None:
    return None if loan.topup_of is None else host.loans[loan.topup_of]
