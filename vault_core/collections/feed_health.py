"""How well the feeds of customers' payments work: a gauge a sweep, and cases that open and close with it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.collections.pull_rules import Window, is_unhealthy
from vault_core.runtime import Runtime

MISSING_CASE = "feed_missing_confirmations"
INCOMPLETE_CASE = "feed_pull_incomplete"
FAILING_CASE = "feed_pull_failing"
LOST_CASE = "feed_window_lost"

_FAILURES_BORNE = 3
_DO_MISSING = "docs/feeds.md, When confirmations stop: is the receiver reachable, do the registered URLs stand?"
_DO_INCOMPLETE = "M-Pesa's list lacks payments that it confirmed: do not rely on it; import the statement of the day"
_DO_FAILING = "the cause says why: the app needs the product Pull Transactions, the pay bill `vault partner register-pull`"
_DO_LOST = "download the statement of this time in the M-Pesa portal and run `vault collections import-statement`"

_MEASURE = text(
    """
    SELECT count(*) FILTER (WHERE confirmed) AS confirmed, count(*) FILTER (WHERE NOT confirmed) AS missed,
           count(*) FILTER (WHERE confirmed AND receipt <> ALL(:listed)) AS unlisted
    FROM collections c, LATERAL (
        SELECT source IN ('c2b', 'stk') OR EXISTS (
                   SELECT FROM collection_tellings t WHERE t.collection_id = c.id AND t.source IN ('c2b', 'stk')) AS confirmed
    ) AS told
    WHERE partner_id = :partner_id AND short_code = :short_code AND happened_at >= :from_at AND happened_at < :to_at
    """
)
_NOTE = text(
    """
    INSERT INTO feed_health (short_code, measured_at, partner_id, from_at, to_at, confirmed, missed, unlisted)
    VALUES (:short_code, :now, :partner_id, :from_at, :to_at, :confirmed, :missed, :unlisted)
    ON CONFLICT (short_code, measured_at) DO NOTHING
    """
)


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep that has read everything between two moments: the receipts that M-Pesa listed."""

    partner_id: UUID
    short_code: str
    start: datetime
    end: datetime
    listed: frozenset[str]


async def note_sweep(connection: AsyncConnection, runtime: Runtime, swept: Swept) -> None:
    """Measures, in the caller's transaction, how many payments of the sweep had no confirmation, and keeps the cases.

    What is so young that its confirmation may still come is left to the next sweep, which reads it again.
    """
    feed = _Feed(connection, runtime, swept.partner_id, swept.short_code)
    await feed.close(FAILING_CASE, "M-Pesa answers again")
    to_at = swept.end - timedelta(seconds=runtime.pace.confirmation_late_after)
    if to_at <= swept.start:
        return
    span = {"partner_id": swept.partner_id, "short_code": swept.short_code, "from_at": swept.start, "to_at": to_at}
    found = (await connection.execute(_MEASURE, {"listed": sorted(swept.listed), **span})).one()
    gauge = {"confirmed": found.confirmed, "missed": found.missed, "unlisted": found.unlisted}
    await connection.execute(_NOTE, {"now": runtime.clock.now(), **span, **gauge})
    evidence = {"short_code": swept.short_code, "from": swept.start.isoformat(), "to": to_at.isoformat(), **gauge}
    await feed.judge(MISSING_CASE, found.missed, found.confirmed, evidence | {"do": _DO_MISSING})
    await feed.judge(INCOMPLETE_CASE, found.unlisted, found.confirmed - found.unlisted, evidence | {"do": _DO_INCOMPLETE})


async def note_failure(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, short_code: str, failures: int, cause: str
) -> None:
    """Opens a case when sweeps keep failing: while they do, a lost confirmation is found by nothing."""
    if failures >= _FAILURES_BORNE:
        evidence = {"short_code": short_code, "failures": failures, "cause": cause, "do": _DO_FAILING}
        await _Feed(connection, runtime, partner_id, short_code).open(FAILING_CASE, evidence)


async def note_lost(runtime: Runtime, partner_id: UUID, short_code: str, lost: Window, connection: AsyncConnection) -> None:
    """Opens a case for a stretch that is too old to be pulled: only a statement tells of it."""
    evidence = {"short_code": short_code, "from": lost.start.isoformat(), "to": lost.end.isoformat(), "do": _DO_LOST}
    await _Feed(connection, runtime, partner_id, short_code).open(LOST_CASE, evidence)


@dataclass(frozen=True, slots=True)
class _Feed:
    connection: AsyncConnection
    runtime: Runtime
    partner_id: UUID
    short_code: str

    @property
    def subject(self) -> str:
        return f"payments of pay bill {self.short_code}"

    async def judge(self, kind: str, missed: int, others: int, evidence: dict[str, Any]) -> None:
        """Opens the case while too many are missed; closes it when payments come and hardly one is. No payments say nothing."""
        pace = self.runtime.pace
        if is_unhealthy(missed, others, pace.missed_most, pace.missed_share):
            await self.open(kind, evidence)
        elif others:
            await self.close(kind, f"of {missed + others} payments up to {evidence['to']} {missed} were missed")

    async def open(self, kind: str, evidence: dict[str, Any]) -> None:
        case = NewCase(kind=kind, subject=self.subject, partner_id=self.partner_id, evidence=evidence)
        await open_cases(self.connection, self.runtime.clock, self.runtime.new_id, [case])

    async def close(self, kind: str, resolution: str) -> None:
        await close_case(self.connection, self.runtime.clock, kind=kind, subject=self.subject, resolution=resolution)
