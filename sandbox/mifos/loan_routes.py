"""The paths of loans, by id, external id or account number."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.asgi import Answer, Dropped, json_answer
from sandbox.mifos import finding, loan_commands, reads
from sandbox.mifos.access import check_read
from sandbox.mifos.commands import Caller, Command, Groups, Handler, body_of, run_command
from sandbox.mifos.errors import Fault, RefusalError, not_found
from sandbox.mifos.host import Loan, MifosHost
from sandbox.mifos.loan_views import transaction_view

_LOAN_COMMANDS: Mapping[str, tuple[str, loan_commands.LoanCommand]] = {
    "approve": ("APPROVE", loan_commands.approve),
    "undoapproval": ("APPROVALUNDO", loan_commands.undo_approval),
    "disburse": ("DISBURSE", loan_commands.disburse),
    "undodisbursal": ("DISBURSALUNDO", loan_commands.undo_disbursal),
    "undolastdisbursal": ("DISBURSALLASTUNDO", loan_commands.undo_last_disbursal),
}


async def _list_loans(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "loan")
    return finding.loan_page(caller.host, caller.request)


def _loan(caller: Caller, external: str | None, number: str) -> Loan:
    if external is None:
        return reads.loan_by_id(caller.host, int(number))
    return reads.loan_by_external_id(caller.host, number)


async def _get_loan(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "loan")
    return reads.loan_view(_loan(caller, *at), caller.request)


async def _get_transaction(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "loan")
    external, number, by_external_id, which = at
    loan = _loan(caller, external, number)
    if by_external_id is not None:
        return json_answer(transaction_view(loan, reads.transaction_by_external_id(caller.host, loan, which)))
    return json_answer(transaction_view(loan, reads.transaction_by_id(loan, int(which))))


async def _payoff(caller: Caller, at: Groups) -> Answer:
    check_read(caller.user, "loan")
    return reads.payoff_template(_loan(caller, *at), caller.request, caller.host.today(caller.world.clock.today()))


async def _command_loan(caller: Caller, at: Groups) -> Answer | Dropped:
    name = caller.request.query.get("command", "")
    if name not in _LOAN_COMMANDS:
        raise reads.unsupported_command(name)
    action, work = _LOAN_COMMANDS[name]
    return await _run(caller, _at(caller, at), action, work)


async def _command_transactions(caller: Caller, at: Groups) -> Answer | Dropped:
    name = caller.request.query.get("command")
    if name != "repayment":
        raise reads.unsupported_command(name)
    return await _run(caller, _at(caller, at), "REPAYMENT", loan_commands.repay)


async def _command_transaction(caller: Caller, at: Groups) -> Answer | Dropped:
    external, number, which = at
    loan = _loan(caller, external, number)
    reads.transaction_by_id(loan, int(which))

    def work(host: MifosHost, loan: Loan, body: dict[str, Any], today: Any) -> dict[str, Any]:
        return loan_commands.reverse(host, loan, body, today, transaction_id=int(which))

    return await _run(caller, lambda: loan, "ADJUST", work)


def _at(caller: Caller, at: Groups) -> Callable[[], Loan]:
    return lambda: _loan(caller, *at)


async def _run(
    caller: Caller,
    find: Callable[[], Loan],
    action: str,
    work: loan_commands.LoanCommand,
) -> Answer | Dropped:
    """Runs `work` on the loan; that there is no such loan is found out inside the command, as on the real server."""
    given = body_of(caller)
    try:
        loan = find()
    except RefusalError as missing:
        refusal = missing

        def fail() -> dict[str, Any]:
            if action == "REPAYMENT":
                loan_commands.refuse_unknown_keys(caller.host, given)
            raise refusal

        return await run_command(caller, Command(action, "LOAN", "loan:none", given, fail))
    today = caller.host.today(caller.world.clock.today())
    command = Command(
        action,
        "LOAN",
        f"loan:{loan.id}",
        given,
        lambda: work(caller.host, loan, given, today),
        loan_id=loan.id,
        cob_locked=loan.cob_locked,
    )
    return await run_command(caller, command)


async def _interoperation(caller: Caller, at: Groups) -> Answer | Dropped:
    account_no, what = at
    loan = next((each for each in caller.host.loans.values() if each.account_no == account_no), None)
    if loan is None:
        text = f"Loan with account ID {account_no} does not exist"
        raise not_found(Fault(text, "error.msg.loan.account.id.invalid", "id", (account_no,)))
    if what == "disburse":
        return await _run(caller, lambda: loan, "DISBURSE", loan_commands.disburse)
    return await _run(caller, lambda: loan, "REPAYMENT", loan_commands.repay)


def _loan_pattern(rest: str) -> re.Pattern[str]:
    return re.compile(r"/api/v1/loans/(?:(external-id)/)?(\d+|(?<=external-id/)[^/]+)" + rest)


LOAN_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    ("GET", re.compile(r"/api/v1/loans"), "loans", _list_loans),
    ("GET", _loan_pattern(""), "loan", _get_loan),
    ("POST", _loan_pattern(""), "loan command", _command_loan),
    ("POST", _loan_pattern("/transactions"), "repayment", _command_transactions),
    ("GET", _loan_pattern("/transactions/template"), "transaction template", _payoff),
    ("GET", _loan_pattern(r"/transactions/(?:(external-id)/)?(\d+|(?<=external-id/)[^/]+)"), "transaction", _get_transaction),
    ("POST", _loan_pattern(r"/transactions/(\d+)"), "transaction command", _command_transaction),
    (
        "POST",
        re.compile(r"/api/v1/interoperation/transactions/([^/]+)/(disburse|loanrepayment)"),
        "interoperation",
        _interoperation,
    ),
)
