"""Loans that Mifos X would not let us post, because the day that counts is a closed one. A decision on values alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from vault_core.clients.mifos_calendar import OfficeCalendar
from vault_core.disbursements.eligibility import Held, HeldFor

_OR_ALLOW = "or allow transactions on such days in its global configuration"


@dataclass(frozen=True, slots=True)
class ClosedDays:
    """What is known of a lender's closed days, by office. `looks_at_expected_day`: as MifosCapabilities has it."""

    offices: Mapping[int, OfficeCalendar] = field(default_factory=dict)
    looks_at_expected_day: bool | None = None


def held_for_closed_day(
    known: ClosedDays, office_id: int | None, *, expected: date | None, today: date, expected_day_only: bool
) -> Held | None:
    """Held if Mifos X is sure to refuse the first disbursal of a loan of this office. `today` is the day in Nairobi.

    Older servers look at the day that it is posted under: it goes on the first open one. Newer ones look at the loan's expected
    day, whenever it is posted: people must change that. One of which it is not known what it does refuses if both are closed.
    `expected_day_only`: the loan's product takes a disbursal under that day alone.
    """
    office = known.offices.get(office_id) if office_id is not None else None
    if office is None or expected is None:
        return None
    posted_on = expected if expected_day_only else today
    counted = {True: (expected,), False: (posted_on,), None: (posted_on, expected)}[known.looks_at_expected_day]
    if not all(office.why_closed(day) for day in counted):
        return None
    if known.looks_at_expected_day or expected_day_only:
        return Held(
            HeldFor.NOT_POSTABLE,
            f"its expected disbursement date, {expected}, is {office.why_closed(expected)} in Mifos X, which takes no disbursal "
            f"for that: undo the approval there and approve it with an open day, {_OR_ALLOW}",
        )
    again = office.next_open(today)
    return Held(
        HeldFor.NOT_DUE,
        f"{today} is {office.why_closed(today)} in Mifos X, which takes no disbursal on it: it goes "
        f"{f'on {again}' if again is not None else 'on the first open day'}; for today, {_OR_ALLOW.removeprefix('or ')}",
    )
