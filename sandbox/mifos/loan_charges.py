"""The charges of a loan that are due at its disbursement: shown, added, and taken off while the loan waits for its approval.

One that is added after the approval counts from then on, and is not in the net that the loan shows (seen on a running server).
"""

import re
from decimal import Decimal

from sandbox.asgi import Answer, Dropped, json_answer
from sandbox.mifos.access import check_read, check_write
from sandbox.mifos.amounts import cents_of, number
from sandbox.mifos.commands import Caller, Groups, Handler
from sandbox.mifos.errors import Fault, domain_rule, not_found
from sandbox.mifos.host import Loan, MifosHost
from sandbox.mifos.reads import loan_by_id

_SUBMITTED, _APPROVED = 100, 200


def _rows(host: MifosHost, loan: Loan) -> dict[int, int]:
    """The cents of each charge by its id."""
    if loan.fee_cents and not loan.charges:
        loan.charges[host.next_id("loan charge")] = loan.fee_cents
    return loan.charges


async def _list(caller: Caller, at: Groups) -> Answer | Dropped:
    check_read(caller.user, "loan")
    rows = _rows(caller.host, loan_by_id(caller.host, int(at[0])))
    return json_answer([{"id": each, "chargeId": 1, "amount": number(cents)} for each, cents in rows.items()])


async def _add(caller: Caller, at: Groups) -> Answer | Dropped:
    check_write(caller.user, "CREATE_LOANCHARGE")
    caller.world.note(caller.request)
    loan = loan_by_id(caller.host, int(at[0]))
    _only(loan, (_SUBMITTED, _APPROVED), "error.msg.loan.charge.cannot.be.added.loan.is.already.disbursed")
    rows = _rows(caller.host, loan)
    number_of = caller.host.next_id("loan charge")
    rows[number_of] = cents_of(Decimal(str(caller.request.json_object()["amount"])))
    return _changed(loan, number_of)


async def _delete(caller: Caller, at: Groups) -> Answer | Dropped:
    check_write(caller.user, "DELETE_LOANCHARGE")
    caller.world.note(caller.request)
    loan, which = loan_by_id(caller.host, int(at[0])), int(at[1])
    rows = _rows(caller.host, loan)
    if which not in rows:
        raise not_found(
            Fault(f"Loan charge {which} does not exist", "error.msg.loanCharge.id.invalid.for.given.loan", "id", (which,))
        )
    _only(loan, (_SUBMITTED,), "error.msg.loan.charge.associated.loan.not.in.submitted.and.pending.approval.stage")
    del rows[which]
    return _changed(loan, which)


def _only(loan: Loan, statuses: tuple[int, ...], code: str) -> None:
    if loan.status not in statuses:
        raise domain_rule(Fault("This charge cannot be changed in the loan's state", code, "id", (loan.id,)))


def _changed(loan: Loan, number_of: int) -> Answer:
    loan.fee_cents = sum(loan.charges.values())
    client = {} if loan.client is None else {"clientId": loan.client.id}
    return json_answer({"officeId": 1, **client, "loanId": loan.id, "resourceId": number_of})


LOAN_CHARGE_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    ("GET", re.compile(r"/api/v1/loans/(\d+)/charges"), "loan charges", _list),
    ("POST", re.compile(r"/api/v1/loans/(\d+)/charges"), "add loan charge", _add),
    ("DELETE", re.compile(r"/api/v1/loans/(\d+)/charges/(\d+)"), "delete loan charge", _delete),
)
