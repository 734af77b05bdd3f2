"""Watching the demo's day from the database: what has happened so far, and whether anything is still to be done."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_STATES = text("SELECT state, found_by, coalesce(held_for, '') AS held_for, count(*) AS n FROM disbursements GROUP BY 1, 2, 3")
_COLLECTIONS = text("SELECT state, count(*) AS n FROM collections GROUP BY 1")
_MESSAGES = text("SELECT state, count(*) AS n FROM messages GROUP BY 1")
# What waits for the lender's next working day goes on tomorrow: today it is at rest.
_OPEN_WORK = text(
    """
    SELECT (SELECT count(*) FROM inbound_events WHERE state = 'stored') AS deliveries,
           (SELECT count(*) FROM outbox WHERE state = 'pending' AND due_at < :soon) AS calls,
           (SELECT count(*) FROM core_postings p JOIN outbox o ON o.kind = 'disbursement.post' AND o.subject = p.subject_id::text
            WHERE p.state = 'unknown' AND p.not_before IS NOT NULL AND o.state = 'pending' AND o.due_at >= :soon) AS later
    """
)
# A tariff difference is a difference a payout.
_CASES = text(
    """
    SELECT p.name AS partner, c.kind, c.subject,
           c.amount_cents * CASE WHEN c.kind = 'tariff_difference' THEN (c.evidence ->> 'payouts_seen')::bigint ELSE 1 END
           AS amount_cents
    FROM cases c LEFT JOIN partners p ON p.id = c.partner_id
    WHERE c.closed_at IS NULL ORDER BY c.kind, c.subject
    """
)
_SOON = timedelta(hours=1)
_ENDED = {"disbursed", "needs_review"}
_WAITING_FOR_A_PERSON = {
    "product_limit",
    "product_disabled",
    "bad_phone",
    "cents",
    "mpesa_limit",
    "currency",
    "group_loan",
    "tranche_loan",
    "cancelled",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """The day so far: numbers of rows by state, and the work that is still open."""

    disbursements: dict[str, int] = field(default_factory=dict)
    held_for: dict[str, int] = field(default_factory=dict)
    found_by: dict[str, int] = field(default_factory=dict)
    collections: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    open_deliveries: int = 0
    open_calls: int = 0
    for_working_day: int = 0  # paid, to be posted on the lender's next working day

    @property
    def loans(self) -> int:
        """All loans found."""
        return sum(self.disbursements.values())

    @property
    def payments(self) -> int:
        """All customer payments booked."""
        return sum(self.collections.values())

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves by itself any more: every loan paid, with a person, or held for what only a person can change."""
        on_their_way = sum(n for state, n in self.disbursements.items() if state not in _ENDED | {"held"})
        on_their_way -= self.for_working_day
        waiting = sum(n for cause, n in self.held_for.items() if cause not in _WAITING_FOR_A_PERSON)
        unposted = sum(self.collections.get(state, 0) for state in ("matching", "posting"))
        return not (
            on_their_way or waiting or unposted or self.open_deliveries or self.open_calls or self.messages.get("queued", 0)
        )


async def take_picture(connection: AsyncConnection, now: datetime) -> Picture:
    """The picture of this moment, which is `now`."""
    disbursements: dict[str, int] = {}
    held_for: dict[str, int] = {}
    found_by: dict[str, int] = {}
    for row in await connection.execute(_STATES):
        disbursements[row.state] = disbursements.get(row.state, 0) + row.n
        found_by[row.found_by] = found_by.get(row.found_by, 0) + row.n
        if row.held_for:
            held_for[row.held_for] = held_for.get(row.held_for, 0) + row.n
    work = (await connection.execute(_OPEN_WORK, {"soon": now + _SOON})).one()
    return Picture(
        disbursements=disbursements,
        held_for=held_for,
        found_by=found_by,
        collections={row.state: row.n for row in await connection.execute(_COLLECTIONS)},
        messages={row.state: row.n for row in await connection.execute(_MESSAGES)},
        open_deliveries=work.deliveries,
        open_calls=work.calls,
        for_working_day=work.later,
    )


async def open_cases(connection: AsyncConnection) -> list[dict[str, Any]]:
    """The open cases as `demo --json` lists them, with their partner."""
    return [dict(row) for row in (await connection.execute(_CASES)).mappings()]
