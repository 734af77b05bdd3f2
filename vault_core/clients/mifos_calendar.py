"""On which days an office of a Mifos X takes no disbursal: its holidays, and the days of the week that the tenant does not work.

Two settings of the tenant allow transactions on them all the same; then such days close nothing (seen on a running server).
What our user may not read, or an old server does not have, is not known, and closes nothing either.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

from vault_core.clients.json_reading import text_of, whole_number
from vault_core.clients.mifos_reading import read_date
from vault_core.clients.mifos_session import MifosSession
from vault_core.errors import InvalidInput, LoginRefused, NotFound, NotUnderstood, RemoteRefusal

ALLOWED_ON_HOLIDAYS = "allow-transactions-on-holiday"
ALLOWED_ON_REST_DAYS = "allow-transactions-on-non-workingday"

_ACTIVE = 300
_WEEK = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LONGEST_NAME = 60
_LONGEST_CLOSURE = 60  # days looked ahead for an open one

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Holiday:
    """Days on which an office is closed, `first` and `last` among them."""

    name: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class OfficeCalendar:
    """The closed days of one office. `rest_days`: of the week, 1 Monday to 7 Sunday. `problem`: what could not be read, why."""

    rest_days: frozenset[int] = frozenset()
    holidays: tuple[Holiday, ...] = ()
    problem: str | None = None

    def why_closed(self, day: date) -> str | None:
        """What closes the day, as people say it, or None."""
        for holiday in self.holidays:
            if holiday.first <= day <= holiday.last:
                return f"a holiday ({holiday.name})"
        return "no working day" if day.isoweekday() in self.rest_days else None

    def next_open(self, day: date) -> date | None:
        """The first open day after `day`; None if there is none within two months."""
        following = (day + timedelta(days=ahead) for ahead in range(1, _LONGEST_CLOSURE + 1))
        return next((each for each in following if self.why_closed(each) is None), None)


async def read_calendars(session: MifosSession, office_ids: Collection[int]) -> dict[int, OfficeCalendar]:
    """The calendars of these offices. Raises what reads raise for a server that is away, busy or refuses the login."""
    allowed, problem = await _known(session, "/configurations", _allowed, None)
    if allowed is None:
        return dict.fromkeys(office_ids, OfficeCalendar(problem=problem))
    rest_days: frozenset[int] = frozenset()
    if not allowed[ALLOWED_ON_REST_DAYS]:
        found, problem = await _known(session, "/workingdays", _rest_days, None)
        rest_days = found or rest_days
    calendars = {}
    for office_id in office_ids:
        holidays, hidden = (
            ((), None)
            if allowed[ALLOWED_ON_HOLIDAYS]
            else await _known(session, "/holidays", _holidays, {"officeId": str(office_id)})
        )
        problems = [words for words in (problem, hidden) if words is not None]
        calendars[office_id] = OfficeCalendar(rest_days, holidays or (), "; ".join(problems) or None)
    return calendars


async def _known(
    session: MifosSession, path: str, read: Callable[[Any], T], params: Mapping[str, str] | None
) -> tuple[T | None, str | None]:
    """What was read, or why it cannot be."""
    try:
        return read(await session.get(path, params)), None
    except LoginRefused:
        raise
    except (RemoteRefusal, NotFound, NotUnderstood, InvalidInput) as error:
        return None, str(error)[:200]


def _allowed(body: Any) -> dict[str, bool]:
    rows = _rows(body.get("globalConfiguration") if isinstance(body, dict) else None, "globalConfiguration")
    found = {text_of(row.get("name")): row.get("enabled") is True for row in rows}
    if not {ALLOWED_ON_HOLIDAYS, ALLOWED_ON_REST_DAYS} <= found.keys():
        raise InvalidInput("the global configuration does not say whether transactions are allowed on closed days")
    return {name: found[name] for name in (ALLOWED_ON_HOLIDAYS, ALLOWED_ON_REST_DAYS)}


def _rest_days(body: Any) -> frozenset[int]:
    """From a recurrence like FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,TU,WE,TH,FR: the days of the week that it leaves out."""
    recurrence = text_of(body.get("recurrence")) if isinstance(body, dict) else None
    parts = dict(part.partition("=")[::2] for part in (recurrence or "").upper().split(";"))
    working = parts.get("BYDAY", "").split(",")
    if parts.get("FREQ") != "WEEKLY" or not set(working) <= set(_WEEK):
        raise InvalidInput(f"the working days are {recurrence!r:.80}, not days of the week")
    return frozenset(number for number, name in enumerate(_WEEK, start=1) if name not in working)


def _holidays(body: Any) -> tuple[Holiday, ...]:
    """Those in force; others wait for their activation, or were deleted."""
    return tuple(
        Holiday(
            (text_of(row.get("name")) or "")[:_LONGEST_NAME],
            read_date(row.get("fromDate"), "fromDate of a holiday"),
            read_date(row.get("toDate"), "toDate of a holiday"),
        )
        for row in _rows(body, "holidays")
        if isinstance(status := row.get("status"), dict) and whole_number(status.get("id")) == _ACTIVE
    )


def _rows(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise InvalidInput(f"the {what} are no list of objects")
    return value
