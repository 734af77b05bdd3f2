"""A partner's float as people ask for it: what M-Pesa told and when, what is expected now, what waits for it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.float_reports import read_float
from vault_core.disbursements.float_rules import Float
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class FloatDescription:
    """`asked_at` and `outcome` are of the last balance question."""

    float: Float
    short_since: datetime | None
    asked_at: datetime | None
    outcome: str | None
    waiting: int
    waiting_for: Money

    def to_json(self) -> dict[str, Any]:
        """The `float` of `vault partner show --json`. Keys are only ever added."""
        report, expected = self.float.report, self.float.expected
        return {
            "told_cents": report.utility.cents if report is not None else None,
            "told_at": report.at.isoformat() if report is not None else None,
            "expected_cents": expected.cents if expected is not None else None,
            "under_way_cents": self.float.drawing.cents,
            "paid_since_cents": self.float.later.cents,
            "paused_since": self.float.refused_at.isoformat() if self.float.is_paused and self.float.refused_at else None,
            "short_since": self.short_since.isoformat() if self.short_since else None,
            "waiting": self.waiting,
            "waiting_cents": self.waiting_for.cents,
            "asked_at": self.asked_at.isoformat() if self.asked_at else None,
            "asked_outcome": self.outcome,
        }


_READ = text(
    """
    SELECT f.short_since, q.asked_at, coalesce(CASE WHEN q.answered_at IS NOT NULL AND q.utility_cents IS NULL
               THEN 'answered without a balance: ' || q.result_code WHEN q.answered_at IS NOT NULL THEN 'answered' END, q.outcome)
               AS outcome,
           w.payouts, w.cents
    FROM (SELECT count(*)::integer AS payouts, coalesce(sum(payout_cents), 0)::bigint AS cents FROM disbursements
          WHERE partner_id = :partner_id AND state = 'held' AND held_for = 'float_short') w
    LEFT JOIN b2c_floats f ON f.partner_id = :partner_id
    LEFT JOIN LATERAL (SELECT * FROM balance_queries WHERE partner_id = :partner_id ORDER BY asked_at DESC LIMIT 1) q ON true
    """
)


async def describe_float(connection: AsyncConnection, partner_id: UUID) -> FloatDescription:
    """The partner's float now."""
    row = (await connection.execute(_READ, {"partner_id": partner_id})).one()
    found = await read_float(connection, partner_id)
    return FloatDescription(found, row.short_since, row.asked_at, row.outcome, row.payouts, Money(row.cents))
