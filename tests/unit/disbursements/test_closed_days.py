"""Which day of a disbursal must be an open one, by the age of the server; what people are told."""

from datetime import date

import pytest

from vault_core.clients.mifos_calendar import Holiday, OfficeCalendar
from vault_core.clients.mifos_values import MifosCapabilities
from vault_core.disbursements.closed_days import ClosedDays, held_for_closed_day
from vault_core.disbursements.eligibility import HeldFor

THURSDAY, FRIDAY, SATURDAY = date(2026, 11, 26), date(2026, 11, 27), date(2026, 11, 28)
EID_AND_WEEKENDS = OfficeCalendar(frozenset({6, 7}), (Holiday("Eid", FRIDAY, FRIDAY),))


@pytest.mark.parametrize(
    ("by_expected_day", "expected", "today", "only", "held_for"),
    [
        (False, THURSDAY, FRIDAY, False, HeldFor.NOT_DUE),
        (False, FRIDAY, THURSDAY, False, None),
        (False, THURSDAY, FRIDAY, True, None),  # posted under Thursday
        (False, FRIDAY, THURSDAY, True, HeldFor.NOT_POSTABLE),
        (True, THURSDAY, FRIDAY, False, None),
        (True, FRIDAY, THURSDAY, False, HeldFor.NOT_POSTABLE),
        (True, FRIDAY, FRIDAY, False, HeldFor.NOT_POSTABLE),
        (True, SATURDAY, THURSDAY, False, HeldFor.NOT_POSTABLE),
        (None, THURSDAY, FRIDAY, False, None),  # it may be refused, it may not
        (None, FRIDAY, THURSDAY, False, None),
        (None, FRIDAY, SATURDAY, False, HeldFor.NOT_DUE),
        (None, FRIDAY, THURSDAY, True, HeldFor.NOT_POSTABLE),
        (None, None, FRIDAY, False, None),
        (False, THURSDAY, THURSDAY, False, None),
        (True, THURSDAY, THURSDAY, False, None),
    ],
)
def test_the_day_that_the_server_looks_at_must_be_open(by_expected_day, expected, today, only, held_for) -> None:
    known = ClosedDays({1: EID_AND_WEEKENDS}, by_expected_day)
    held = held_for_closed_day(known, 1, expected=expected, today=today, expected_day_only=only)
    assert (held.held_for if held is not None else None) == held_for


@pytest.mark.parametrize("office_id", [2, None])
def test_an_office_of_which_nothing_is_known_holds_nothing(office_id) -> None:
    known = ClosedDays({1: EID_AND_WEEKENDS}, looks_at_expected_day=False)
    assert held_for_closed_day(known, office_id, expected=FRIDAY, today=FRIDAY, expected_day_only=False) is None


def test_what_is_held_says_why_and_when_it_goes() -> None:
    held = held_for_closed_day(
        ClosedDays({1: EID_AND_WEEKENDS}, looks_at_expected_day=False), 1, expected=FRIDAY, today=FRIDAY, expected_day_only=False
    )
    assert held is not None
    assert "2026-11-27 is a holiday (Eid)" in held.reason
    assert "it goes on 2026-11-30" in held.reason  # the weekend is closed, too
    weekend = OfficeCalendar(frozenset(range(1, 8)))
    held = held_for_closed_day(
        ClosedDays({1: weekend}, looks_at_expected_day=True), 1, expected=FRIDAY, today=THURSDAY, expected_day_only=False
    )
    assert held is not None
    assert "2026-11-27, is no working day" in held.reason


@pytest.mark.parametrize(
    ("paths", "version", "by_expected_day"),
    [
        (False, None, False),
        (False, "1.8.4", False),
        (True, "1.9.0", False),
        (True, "1.10.1", False),
        (True, "1.11.0-SNAPSHOT", True),
        (True, "1.15.0", True),
        (True, None, None),
        (True, "4198b0bc", None),
        (True, "24.08", None),
    ],
)
def test_the_version_tells_which_day_the_server_looks_at_where_it_is_shown(paths, version, by_expected_day) -> None:
    found = MifosCapabilities(True, True, True, False, version, external_id_paths=paths)
    assert found.looks_at_expected_day is by_expected_day
