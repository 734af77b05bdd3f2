"""The closed days of lenders' offices, read from their Mifos X once a day when a loan needs them, and kept for all processes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import ApprovedLoan
from vault_core.clients.mifos_calendar import Holiday, OfficeCalendar
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.closed_days import ClosedDays
from vault_core.disbursements.found_loans import FoundLoan
from vault_core.errors import VaultError
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    read_at: datetime
    calendar: OfficeCalendar


_LOAD = text("SELECT office_id, read_at, rest_days, holidays, problem FROM mifos_calendars WHERE partner_id = :partner_id")
_KEEP = text(
    """
    INSERT INTO mifos_calendars AS kept (partner_id, office_id, read_at, rest_days, holidays, problem)
    SELECT :partner_id, told.office_id, :now, ARRAY(SELECT jsonb_array_elements_text(told.rest_days)::integer), told.holidays,
           told.problem
    FROM unnest(CAST(:offices AS bigint[]), CAST(:rest_days AS jsonb[]), CAST(:holidays AS jsonb[]), CAST(:problems AS text[]))
         AS told(office_id, rest_days, holidays, problem)
    ON CONFLICT (partner_id, office_id) DO UPDATE SET read_at = excluded.read_at, rest_days = excluded.rest_days,
        holidays = excluded.holidays, problem = excluded.problem
    WHERE kept.read_at <= excluded.read_at
    """
)


async def with_closed_days(
    runtime: Runtime, connections: Connections, partner_id: UUID, found: Sequence[FoundLoan]
) -> list[FoundLoan]:
    """Each with what is known of the closed days of its office."""
    if not found:
        return []
    known = await closed_days(runtime, connections, partner_id, [item.loan for item in found])
    return [replace(item, closed_days=known) for item in found]


async def closed_days(runtime: Runtime, connections: Connections, partner_id: UUID, loans: Sequence[ApprovedLoan]) -> ClosedDays:
    """The closed days of the offices of `loans`. Asks Mifos X for what was not read today; what cannot be read closes nothing.

    A day that stops a loan is read anew every few minutes: people may have opened it, or allowed transactions on it.
    """
    partner = await connections.partner(partner_id)
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(_LOAD, {"partner_id": partner_id})
        kept = {row.office_id: _Kept(row.read_at, _calendar(row)) for row in rows}
    now = runtime.clock.now()
    patience = timedelta(seconds=runtime.pace.poll_every)
    stale = {
        loan.office_id
        for loan in loans
        if loan.office_id is not None and not _is_fresh(kept.get(loan.office_id), loan, now, patience)
    }
    offices = {office_id: each.calendar for office_id, each in kept.items()}
    if stale:
        try:
            told = await (await connections.mifos(partner_id)).calendars(sorted(stale))
        except VaultError as error:
            log.warning("closed days not read", partner=partner.name, cause=str(error))
        else:
            await in_transaction(runtime.engine, lambda connection: _keep(connection, partner_id, told, now))
            offices |= told
    return ClosedDays(offices, partner.mifos_capabilities.looks_at_expected_day)


def _is_fresh(kept: _Kept | None, loan: ApprovedLoan, now: datetime, patience: timedelta) -> bool:
    today = business_day(now)
    if kept is None or business_day(kept.read_at) != today:
        return False
    days = (today, loan.expected_on or today)
    return now - kept.read_at < patience or not any(kept.calendar.why_closed(day) for day in days)


async def _keep(connection: AsyncConnection, partner_id: UUID, told: Mapping[int, OfficeCalendar], now: datetime) -> None:
    await connection.execute(
        _KEEP,
        {
            "partner_id": partner_id,
            "now": now,
            "offices": list(told),
            "rest_days": [json.dumps(sorted(each.rest_days)) for each in told.values()],
            "holidays": [json.dumps([_told(holiday) for holiday in each.holidays]) for each in told.values()],
            "problems": [each.problem for each in told.values()],
        },
    )


def _told(holiday: Holiday) -> dict[str, str]:
    return {"name": holiday.name, "first": holiday.first.isoformat(), "last": holiday.last.isoformat()}


def _calendar(row: Row[Any]) -> OfficeCalendar:
    holidays = tuple(
        Holiday(each["name"], date.fromisoformat(each["first"]), date.fromisoformat(each["last"])) for each in row.holidays
    )
    return OfficeCalendar(frozenset(row.rest_days), holidays, row.problem)
