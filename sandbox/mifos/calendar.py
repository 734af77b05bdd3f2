"""What a host shows of its closed days: its holidays, the working week, and whether transactions are allowed on them."""

import re
from datetime import date
from typing import Any

from sandbox.asgi import Answer, Dropped, json_answer
from sandbox.mifos.access import check_read
from sandbox.mifos.closed_days import HOLIDAY, rest_days
from sandbox.mifos.commands import Caller, Groups, Handler
from sandbox.mifos.shapes import date_array

_WEEK = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


async def _holidays(caller: Caller, _: Groups) -> Answer | Dropped:
    """GET /holidays?officeId=: a plain array of all, those that wait for activation too. Without an office nothing is found."""
    check_read(caller.user, "holiday")
    if caller.request.query.get("officeId") != "1":
        return json_answer([])
    days = sorted(day for day, kind in caller.host.closed_days.items() if kind == HOLIDAY)
    planned = {"id": 100, "code": "holidayStatusType.pending.for.activation", "value": "Pending for activation"}
    active = {"id": 300, "code": "holidayStatusType.active", "value": "Active"}
    rows = [_holiday(number, day, f"Holiday {number}", active) for number, day in enumerate(days, start=1)]
    planned_on = caller.world.clock.today()
    return json_answer([*rows, _holiday(len(days) + 1, planned_on, "Planned, not in force", planned)])


def _holiday(number: int, day: date, name: str, status: dict[str, Any]) -> dict[str, Any]:
    days = {"fromDate": date_array(day), "toDate": date_array(day)}
    return {"id": number, "name": name, "description": "", **days, "status": status, "reschedulingType": 1}


async def _working_days(caller: Caller, _: Groups) -> Answer | Dropped:
    """GET /workingdays."""
    check_read(caller.user, "workingdays")
    rest = rest_days(caller.host)
    days = ",".join(name for number, name in enumerate(_WEEK, start=1) if number not in rest)
    moving = {"id": 2, "code": "RepaymentRescheduleType.move.to.next.working.day", "value": "move to next working day"}
    extends = {"extendTermForDailyRepayments": False, "extendTermForRepaymentsOnHolidays": False}
    recurrence = f"FREQ=WEEKLY;INTERVAL=1;BYDAY={days}"
    return json_answer({"id": 1, "recurrence": recurrence, "repaymentRescheduleType": moving, **extends})


async def _configurations(caller: Caller, _: Groups) -> Answer | Dropped:
    """GET /configurations: a few of the many."""
    check_read(caller.user, "configuration")
    allowed = caller.host.allows_closed_days
    settings = {
        "maker-checker": bool(caller.host.maker_checker),
        "reschedule-repayments-on-holidays": False,
        "allow-transactions-on-holiday": allowed,
        "allow-transactions-on-non-workingday": allowed,
    }
    rows = [
        {"name": name, "enabled": enabled, "value": 0, "id": number, "trapDoor": False}
        for number, (name, enabled) in enumerate(settings.items(), start=1)
    ]
    return json_answer({"globalConfiguration": rows})


CALENDAR_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    ("GET", re.compile(r"/api/v1/holidays"), "holidays", _holidays),
    ("GET", re.compile(r"/api/v1/workingdays"), "working days", _working_days),
    ("GET", re.compile(r"/api/v1/configurations"), "configurations", _configurations),
)
