"""What a loan refuses: wrong days, too much money, external ids that were used before."""

from datetime import date
from decimal import Decimal
from typing import Any

from sandbox.mifos.errors import Fault, domain_rule, integrity, validation
from sandbox.mifos.host import Loan, MifosHost
from sandbox.mifos.payload import LONGEST_EXTERNAL_ID


def check_disbursal(loan: Loan, day: date, today: date, cents: int, body: dict[str, Any]) -> None:
    """Raises when the day or the amount of a disbursal will not do."""
    if loan.product.sync_expected and day != loan.expected_on:
        text = f"Actual disbursement date  ({day}) should be equal to Expected disbursal date ({loan.expected_on})"
        code = "error.msg.actual.disbursement.date.does.not.match.with.expected.disbursal.date"
        raise domain_rule(Fault(text, code, "id", (day.isoformat(), loan.expected_on.isoformat())))
    if loan.approved_on is not None and day < loan.approved_on:
        text = f"The date on which a loan is disbursed cannot be before its approval date: {loan.approved_on}"
        code = "error.msg.loan.disbursal.cannot.be.before.approval.date"
        raise domain_rule(Fault(text, code, "id", (day.isoformat(), loan.approved_on.isoformat())))
    if loan.status == 200 and loan.first_repayment_on is not None and day > loan.first_repayment_on:
        code = "error.msg.loanschedule.schedule.due.date.not.valid"
        raise domain_rule(Fault("Due date can't be before period start date", code, "id", (loan.first_repayment_on.isoformat(),)))
    if day > today:
        text = f"The date on which a loan with identifier : {loan.account_no} is disbursed cannot be in the future."
        raise domain_rule(Fault(text, "error.msg.loan.disbursal.cannot.be.a.future.date", "id", (day.isoformat(),)))
    if cents > loan.approved_cents:
        text = "Loan can't be disbursed,disburse amount is exceeding approved amount "
        code = "error.msg.loan.disburse.amount.must.be.less.than.approved.amount"
        shown = float(Decimal(cents) / 100)
        raise domain_rule(Fault(text, code, "id", (_json_number(body.get("transactionAmount", shown)), shown)))


def check_repayment_day(loan: Loan, day: date, today: date) -> None:
    """Raises when the day of a repayment will not do."""
    if day > today:
        text = "The transaction date cannot be in the future."
        raise domain_rule(Fault(text, "error.msg.loan.transaction.cannot.be.a.future.date", "id", (day.isoformat(),)))
    if loan.disbursed_on is not None and day < loan.disbursed_on:
        text = f"The transaction date cannot be before the loan disbursement date: {loan.disbursed_on}"
        code = "error.msg.loan.transaction.cannot.be.before.disbursement.date"
        raise domain_rule(Fault(text, code, "id", (day.isoformat(), loan.disbursed_on.isoformat())))


def check_new_external_id(host: MifosHost, body: dict[str, Any], *, disbursal: bool) -> None:
    """Raises when the external id is too long or was used before, be it by something reversed since."""
    wanted = external_id(body)
    if wanted is None:
        return
    if len(wanted) > LONGEST_EXTERNAL_ID:
        kind = "disbursement" if disbursal else "repayment"
        text = f"Unknown data integrity issue with resource: {kind.capitalize()}"
        raise integrity(Fault(text, f"error.msg.loan.{kind}.unknown.data.integrity.issue", None))
    if wanted not in host.transaction_external_ids:
        return
    if disbursal and not host.legacy:
        text = f"Disbursement: externalId `{wanted}` already exists"
        raise integrity(Fault(text, "error.msg.loan.disbursement.duplicate.externalId", "externalId", (wanted,)))
    text = "Failed data validation due to: value.must.be.unique."
    code = "validation.msg.loan.transaction.externalId.value.must.be.unique"
    raise validation(Fault(text, code, "externalId", ({}, [])))


def external_id(body: dict[str, Any]) -> str | None:
    """The external id of the body, if it has one."""
    value = body.get("externalId")
    return str(value) if value not in (None, "") else None


def _json_number(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
