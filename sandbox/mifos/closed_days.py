"""The days on which a host takes no disbursal: holidays, and days of the week without work."""

from datetime import date

from sandbox.mifos.errors import Fault, domain_rule
from sandbox.mifos.host import Loan, MifosHost

HOLIDAY, _REST_DAY = "holiday", "non.working.day"


def check_open_day(host: MifosHost, loan: Loan, posted_on: date) -> None:
    """Raises for a first disbursal on a closed day. Since 1.11 the loan's expected day counts, before the day of the posting."""
    day = loan.expected_on if host.looks_at_expected_day else posted_on
    kind = _closed(host, day)
    if kind is None or loan.status != 200 or host.allows_closed_days:
        return
    text = f"Expected disbursement date cannot be on a {kind.replace('.', ' ')}"
    code = f"error.msg.loan.application.disbursement.date.on.{kind}"
    raise domain_rule(Fault(text, code, "id", (loan.expected_on.isoformat(),)))


def _closed(host: MifosHost, day: date) -> str | None:
    if host.closed_days.get(day) == HOLIDAY:
        return HOLIDAY
    return _REST_DAY if day.isoweekday() in rest_days(host) else None


def rest_days(host: MifosHost) -> set[int]:
    """The days of the week without work, 1 Monday to 7 Sunday."""
    return {day.isoweekday() for day, kind in host.closed_days.items() if kind == _REST_DAY}
