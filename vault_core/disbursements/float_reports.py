"""Keeping what M-Pesa says about utility balances, and reading what is expected to be left of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.disbursements.float_rules import Float, FloatReport, is_credible
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

CLOCK_CASE = "clock_behind"


@dataclass(frozen=True, slots=True)
class Told:
    """Balances that M-Pesa told about a partner's B2C short code, and the delivery that did."""

    partner_id: UUID
    at: datetime
    utility: Money
    working: Money | None
    charges_paid: Money | None
    source: Literal["result", "balance_query"]
    event_id: UUID
    received_at: datetime


# In one order, as any number of workers write them. Of one second the lowest stands, in whatever order they come.
_KEEP = text(
    """
    INSERT INTO float_reports AS kept (partner_id, short_code, at, utility_cents, working_cents, charges_paid_cents, source,
                                       event_id, received_at)
    SELECT DISTINCT ON (told.partner_id, told.at) told.partner_id, p.b2c_short_code, told.at, told.utility, told.working,
           told.charges, told.source, told.event_id, max(told.received_at) OVER (PARTITION BY told.partner_id, told.at)
    FROM unnest(CAST(:partners AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:utilities AS bigint[]),
                CAST(:workings AS bigint[]), CAST(:charges AS bigint[]), CAST(:sources AS text[]), CAST(:events AS uuid[]),
                CAST(:received AS timestamptz[]))
         AS told(partner_id, at, utility, working, charges, source, event_id, received_at)
    JOIN partners p ON p.id = told.partner_id
    ORDER BY told.partner_id, told.at, told.utility, told.event_id
    ON CONFLICT (partner_id, short_code, at) DO UPDATE SET
        utility_cents = least(kept.utility_cents, excluded.utility_cents),
        working_cents = CASE WHEN excluded.utility_cents < kept.utility_cents THEN excluded.working_cents
                             ELSE kept.working_cents END,
        charges_paid_cents = CASE WHEN excluded.utility_cents < kept.utility_cents THEN excluded.charges_paid_cents
                                  ELSE kept.charges_paid_cents END,
        source = CASE WHEN excluded.utility_cents < kept.utility_cents THEN excluded.source ELSE kept.source END,
        event_id = CASE WHEN excluded.utility_cents < kept.utility_cents THEN excluded.event_id ELSE kept.event_id END,
        received_at = greatest(kept.received_at, excluded.received_at)
    """
)
# In one statement, and so of one moment. `float_rules.is_reflected` is the rule behind `later`.
_READ = text(
    """
    SELECT r.at, r.utility_cents, r.received_at, f.refused_at, f.probe_id,
           (SELECT coalesce(sum(a.amount_cents), 0)::bigint FROM disbursement_attempts a
            WHERE a.partner_id = p.id
                  AND (a.state IN ('written', 'accepted', 'unknown') OR (a.state = 'refused' AND a.maybe_seen))
           ) AS drawing_cents,
           (SELECT coalesce(sum(l.amount_cents), 0)::bigint FROM rail_lines l
            WHERE l.partner_id = p.id AND l.rail = 'mpesa_b2c' AND l.short_code = p.b2c_short_code AND l.happened_at >= r.at)
           - (SELECT coalesce(sum(l.amount_cents), 0)::bigint
              FROM disbursements d
              JOIN disbursement_attempts a
                   ON a.disbursement_id = d.id AND a.state = 'paid' AND a.utility_balance_cents IS NOT NULL
              JOIN rail_lines l ON l.short_code = p.b2c_short_code AND l.receipt = d.receipt AND l.happened_at = d.paid_at
              WHERE d.partner_id = p.id AND d.paid_at = r.at)
           AS later_cents
    FROM partners p LEFT JOIN b2c_floats f ON f.partner_id = p.id
    LEFT JOIN LATERAL (SELECT * FROM float_reports r WHERE r.partner_id = p.id AND r.short_code = p.b2c_short_code
                       ORDER BY r.at DESC LIMIT 1) r ON true
    WHERE p.id = :partner_id
    """
)
_PAUSE = text(
    """
    SELECT f.refused_at FROM b2c_floats f
    WHERE f.partner_id = :partner_id AND f.probe_id IS NULL AND f.refused_at IS NOT NULL AND f.refused_at >= coalesce(
        (SELECT r.received_at FROM float_reports r WHERE r.partner_id = f.partner_id AND r.short_code = :short_code
         ORDER BY r.at DESC LIMIT 1), '-infinity')
    """
)


async def keep_reports(connection: AsyncConnection, runtime: Runtime, told: Sequence[Told]) -> None:
    """Keeps the credible ones, in the caller's transaction. Repeats and any order of arrival leave the same.

    What is not credible says that our clock is behind M-Pesa's: one case for all of it, until a person has seen to the clock.
    """
    wanted = [one for one in told if is_credible(one.at, one.received_at)]
    if unbelieved := [one for one in told if not is_credible(one.at, one.received_at)]:
        await open_cases(connection, runtime.clock, runtime.new_id, [_clock_case(unbelieved[0])])
    if not wanted:
        return
    await connection.execute(
        _KEEP,
        {
            "partners": [one.partner_id for one in wanted],
            "ats": [one.at for one in wanted],
            "utilities": [one.utility.cents for one in wanted],
            "workings": [_cents(one.working) for one in wanted],
            "charges": [_cents(one.charges_paid) for one in wanted],
            "sources": [one.source for one in wanted],
            "events": [one.event_id for one in wanted],
            "received": [one.received_at for one in wanted],
        },
    )


async def read_float(connection: AsyncConnection, partner_id: UUID) -> Float:
    """The partner's float as it stands. What claims write after it draws on it, too: whoever sends has taken its turn."""
    row = (await connection.execute(_READ, {"partner_id": partner_id})).one()
    report = None if row.at is None else FloatReport(row.at, Money(row.utility_cents), row.received_at)
    return Float(report, Money(row.drawing_cents), Money(row.later_cents), row.refused_at, row.probe_id)


async def paused_since(connection: AsyncConnection, partner: Partner) -> datetime | None:
    """When M-Pesa refused a payout for float, if it has told no balance since and no probe is on its way."""
    values = {"partner_id": partner.id, "short_code": partner.b2c_short_code}
    return (await connection.execute(_PAUSE, values)).scalar_one_or_none()


def _clock_case(told: Told) -> NewCase:
    behind = int((told.at - told.received_at).total_seconds()) // 60
    return NewCase(
        kind=CLOCK_CASE,
        subject="clock of this installation",
        partner_id=None,
        evidence={
            "what": f"M-Pesa tells a balance of {behind} minutes from now by our clock: it is not used, nor are the next. "
            "Without one payouts go as if there were float, and gaps of the float are not seen",
            "mpesa_time": told.at.isoformat(),
            "our_time": told.received_at.isoformat(),
            "partner": str(told.partner_id),
            "event_id": str(told.event_id),
            "do": "compare the clock of each machine with the true time (`timedatectl`) and have it follow a time server, then "
            "close this case: it opens again if balances are still not to be believed",
        },
    )


def _cents(amount: Money | None) -> int | None:
    return None if amount is None else amount.cents
