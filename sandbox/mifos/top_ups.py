"""Top-up loans: the disbursal pays off an older loan of the client, so that less reaches the client than the principal."""

from datetime import date
from typing import Any

from sandbox.mifos.amounts import number
from sandbox.mifos.errors import Fault, domain_rule, integrity
from sandbox.mifos.host import Loan, LoanTransaction, MifosHost
from sandbox.mifos.loan_checks import external_id
from sandbox.mifos.loan_state import figures, settle_status


def kept_back_cents(host: MifosHost, loan: Loan) -> int:
    """What of the principal the client does not get: charges due at disbursement, and what the older loan still owes.

    A server that does not net top-ups before their disbursal tells nothing of the second.
    """
    older = older_loan(host, loan) if host.nets_top_ups else None
    owed = figures(older).outstanding_cents if older is not None and older.status == 300 else 0
    return loan.fee_cents + owed


def payoff_cents(host: MifosHost, loan: Loan, cents: int, body: dict[str, Any]) -> int:
    """What of `cents` the disbursal takes for the older loan: 0 where there is none. Raises what the server refuses.

    It books two transactions under the one external id of the command, so that it refuses any.
    """
    older = older_loan(host, loan)
    if older is None:
        return 0
    if older.status != 300:
        text = "Loan to be closed with this topup is not active."
        raise domain_rule(Fault(text, "error.msg.loan.to.be.closed.with.topup.is.not.active", "id", ()))
    owed = figures(older).outstanding_cents
    if owed > cents:
        text = "Topup loan amount should be greater than outstanding amount of loan to be closed."
        raise domain_rule(Fault(text, "error.msg.loan.amount.less.than.outstanding.of.loan.to.be.closed", "id", ()))
    if (wanted := external_id(body)) is not None:
        text = f"Disbursement: externalId `{wanted}` already exists"
        raise integrity(Fault(text, "error.msg.loan.disbursement.duplicate.externalId", "externalId", (wanted,)))
    return owed


def pay_off(host: MifosHost, loan: Loan, cents: int, day: date, today: date) -> None:
    """Books the transfer that closes the older loan: a disbursal of this one, a repayment of that, both without a receipt."""
    older = older_loan(host, loan)
    if older is None:
        return
    loan.transactions.append(LoanTransaction(host.next_id("transaction"), "disbursement", cents, day, today))
    older.transactions.append(LoanTransaction(host.next_id("transaction"), "repayment", cents, day, today))
    settle_status(older)


def top_up_view(loan: Loan) -> dict[str, Any]:
    """What a loan shows of being a top-up; the amount from its disbursal on."""
    if loan.topup_of is None:
        return {"isTopup": False}
    view: dict[str, Any] = {"isTopup": True, "closureLoanId": loan.topup_of}
    live = [each for each in loan.transactions if each.kind == "disbursement" and each.reversed_on is None]
    return view | ({"topupAmount": number(live[0].amount_cents)} if len(live) > 1 else {})


def older_loan(host: MifosHost, loan: Loan) -> Loan | None:
    """The loan that the disbursal pays off, if this one is a top-up."""
    return None if loan.topup_of is None else host.loans[loan.topup_of]
