"""Holding the utility balances that M-Pesa tells against what we paid: float that came is noted, money that went is a case."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.database import in_transaction
from vault_core.disbursements.float_gaps import MOST_POINTS, Accounting, Draw, Instructed, Movement, Point, account_for
from vault_core.money import ZERO, Money
from vault_core.runtime import Runtime

GAP_CASE = "float_gap"

LATE_EVIDENCE = timedelta(days=60)  # a gap that is older is not looked at again by itself
_MOST_SHOWN = 20

_TO_DO = text(
    """
    SELECT p.id FROM partners p LEFT JOIN b2c_floats f ON f.partner_id = p.id
    WHERE EXISTS (SELECT FROM float_reports r WHERE r.partner_id = p.id AND r.short_code = p.b2c_short_code
                  AND r.at > coalesce(f.settled_at, '-infinity'))
       OR EXISTS (SELECT FROM float_movements m WHERE m.partner_id = p.id AND m.amount_cents < 0 AND m.explained_at IS NULL
                  AND m.found_at > :since)
    ORDER BY p.id
    """
)
# Everything below is read as of one moment: a balance without the payouts in it would look like a gap.
_ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('float audit ' || CAST(:partner_id AS text), 0))")
_PARTNER = text(
    """
    SELECT p.name, p.b2c_short_code AS short_code, coalesce(f.settled_at, '2007-01-01Z') AS settled_at
    FROM partners p LEFT JOIN b2c_floats f ON f.partner_id = p.id WHERE p.id = :partner_id
    """
)
_POINTS = text(
    """
    SELECT at, utility_cents, received_at FROM float_reports
    WHERE partner_id = :partner_id AND short_code = :short_code AND at >= :settled_at ORDER BY at LIMIT :most
    """
)
_DRAWS = text(
    """
    SELECT happened_at, sum(amount_cents)::bigint AS amount_cents FROM rail_lines
    WHERE rail = 'mpesa_b2c' AND partner_id = :partner_id AND short_code = :short_code
          AND happened_at > :from_at AND happened_at <= :to_at
    GROUP BY happened_at
    """
)
# Open ones, those paid after the first balance or heard of after it, those that failed since; those alike to the second together,
# written as early and failed as late as one of them may have been.
_INSTRUCTED = text(
    """
    SELECT sum(one.amount_cents)::bigint AS amount_cents, date_trunc('second', one.written_at) AS written_at, one.paid_at,
           date_trunc('second', one.failed_at) + interval '1 second' AS failed_at, one.vague
    FROM (
        SELECT a.amount_cents, a.written_at, CAST(NULL AS timestamptz) AS paid_at, CAST(NULL AS timestamptz) AS failed_at,
               false AS vague
        FROM disbursement_attempts a
        WHERE a.partner_id = :partner_id
              AND (a.state IN ('written', 'accepted', 'unknown') OR (a.state = 'refused' AND a.maybe_seen))
        UNION ALL
        SELECT a.amount_cents, a.written_at, d.paid_at, NULL, a.utility_balance_cents IS NULL
        FROM disbursements d JOIN disbursement_attempts a ON a.disbursement_id = d.id AND a.state = 'paid'
        WHERE d.partner_id = :partner_id AND (d.paid_at > :from_at OR (d.paid_at > :from_at - interval '2 days'
              AND a.utility_balance_cents IS NULL AND (d.paid_at = :from_at OR a.result_at > :heard_after)))
        UNION ALL
        SELECT a.amount_cents, a.written_at, NULL, a.result_at, false
        FROM disbursement_attempts a
        WHERE a.partner_id = :partner_id AND a.written_at > :heard_after - interval '2 days' AND a.state = 'failed'
              AND a.result_at > :heard_after - interval '1 minute'
    ) one
    GROUP BY 2, 3, 4, 5
    """
)
_SETTLED = text(
    """
    INSERT INTO b2c_floats AS f (partner_id, settled_at) VALUES (:partner_id, :settled_at)
    ON CONFLICT (partner_id) DO UPDATE SET settled_at = excluded.settled_at
    WHERE f.settled_at IS DISTINCT FROM excluded.settled_at
    """
)
_FORGET = text(
    """
    DELETE FROM float_movements
    WHERE partner_id = :partner_id AND short_code = :short_code AND NOT settled AND (from_at, to_at) NOT IN (
        SELECT * FROM unnest(CAST(:froms AS timestamptz[]), CAST(:tos AS timestamptz[])))
    """
)
_NOTE = text(
    """
    INSERT INTO float_movements AS m (id, partner_id, short_code, from_at, to_at, amount_cents, drawn_cents, settled, found_at)
    SELECT found.id, :partner_id, :short_code, found.from_at, found.to_at, found.amount, found.drawn, found.settled, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:froms AS timestamptz[]), CAST(:tos AS timestamptz[]), CAST(:amounts AS bigint[]),
                CAST(:drawns AS bigint[]), CAST(:settleds AS boolean[])) AS found(id, from_at, to_at, amount, drawn, settled)
    ON CONFLICT (partner_id, short_code, from_at, to_at) DO UPDATE
    SET amount_cents = excluded.amount_cents, drawn_cents = excluded.drawn_cents, settled = excluded.settled WHERE NOT m.settled
    """
)
# A payment that is heard of afterwards explains what was found.
_EXPLAIN = text(
    """
    UPDATE float_movements m SET explained_at = CASE WHEN m.amount_cents + late.cents >= 0 THEN :now END,
           amount_cents = CASE WHEN m.amount_cents + late.cents >= 0 THEN m.amount_cents ELSE m.amount_cents + late.cents END,
           drawn_cents = m.drawn_cents + late.cents
    FROM (SELECT o.id, (SELECT coalesce(sum(l.amount_cents), 0)::bigint FROM rail_lines l
                        WHERE l.rail = 'mpesa_b2c' AND l.partner_id = o.partner_id AND l.short_code = o.short_code
                              AND l.happened_at > o.from_at AND l.happened_at <= o.to_at) - o.drawn_cents AS cents
          FROM float_movements o
          WHERE o.partner_id = :partner_id AND o.settled AND o.amount_cents < 0 AND o.explained_at IS NULL
                AND o.found_at > :since) late
    WHERE late.id = m.id AND late.cents <> 0
    """
)
_CASE = text(
    "SELECT opened_at, amount_cents FROM cases WHERE kind = :kind AND subject = :subject AND closed_at IS NULL FOR UPDATE"
)
_LAST_CLOSED = text("SELECT coalesce(max(closed_at), '2007-01-01Z') FROM cases WHERE kind = :kind AND subject = :subject")
_GAPS = text(
    """
    SELECT m.from_at, m.to_at, m.amount_cents, m.drawn_cents, m.settled, a.utility_cents AS utility_before,
           b.utility_cents AS utility_after, a.working_cents AS working_before, b.working_cents AS working_after,
           a.charges_paid_cents AS charges_before, b.charges_paid_cents AS charges_after
    FROM float_movements m
    JOIN float_reports a ON a.partner_id = m.partner_id AND a.short_code = m.short_code AND a.at = m.from_at
    JOIN float_reports b ON b.partner_id = m.partner_id AND b.short_code = m.short_code AND b.at = m.to_at
    WHERE m.partner_id = :partner_id AND m.amount_cents < 0 AND m.explained_at IS NULL AND m.found_at > :after
    ORDER BY m.to_at, m.from_at
    """
)
_GROW = text(
    "UPDATE cases SET amount_cents = :cents, evidence = :evidence WHERE kind = :kind AND subject = :subject AND closed_at IS NULL"
).bindparams(bindparam("evidence", type_=JSON))


@dataclass(frozen=True, slots=True)
class _Audited:
    """A partner's short code under audit."""

    id: UUID
    name: str
    short_code: str

    @property
    def subject(self) -> str:
        return f"float of {self.name}"

    @property
    def key(self) -> dict[str, Any]:
        return {"partner_id": self.id, "short_code": self.short_code}


async def audit_floats(runtime: Runtime) -> int:
    """Accounts for every partner's balances since the last ones accounted for; returns how many gaps stand open.

    One case a partner, with every gap in it: it grows with the next one, and closes when payments that are heard of later explain
    them all. Closed by a person, only a new gap opens another. Any number of workers may audit at once.
    """
    async with runtime.engine.connect() as connection:
        ids = (await connection.execute(_TO_DO, {"since": runtime.clock.now() - LATE_EVIDENCE})).scalars().all()
    return sum([await in_transaction(runtime.engine, partial(_audit, runtime, partner_id)) for partner_id in ids])


async def _audit(runtime: Runtime, partner_id: UUID, connection: AsyncConnection) -> int:
    await connection.execute(_ONE_MOMENT)
    if not (await connection.execute(_TURN, {"partner_id": partner_id})).scalar_one():
        return 0
    row = (await connection.execute(_PARTNER, {"partner_id": partner_id})).one()
    audited = _Audited(partner_id, row.name, row.short_code)
    accounting = await _account(connection, audited, row.settled_at)
    if accounting is not None:
        await _write(connection, runtime, audited, accounting)
    since = runtime.clock.now() - LATE_EVIDENCE
    await connection.execute(_EXPLAIN, {"partner_id": partner_id, "now": runtime.clock.now(), "since": since})
    return await _keep_case(connection, runtime, audited)


async def _account(connection: AsyncConnection, audited: _Audited, settled_at: Any) -> Accounting | None:
    told = [
        Point(row.at, Money(row.utility_cents), row.received_at)
        for row in await connection.execute(_POINTS, {"settled_at": settled_at, "most": MOST_POINTS, **audited.key})
    ]
    if not told:
        return None
    base = told[0]
    draws = await connection.execute(_DRAWS, {"from_at": base.at, "to_at": told[-1].at, **audited.key})
    instructed = await connection.execute(
        _INSTRUCTED, {"partner_id": audited.id, "from_at": base.at, "heard_after": base.received_at}
    )
    return account_for(
        base,
        told[1:],
        [Draw(row.happened_at, Money(row.amount_cents)) for row in draws],
        [Instructed(Money(row.amount_cents), row.written_at, row.paid_at, row.failed_at, row.vague) for row in instructed],
    )


async def _write(connection: AsyncConnection, runtime: Runtime, audited: _Audited, accounting: Accounting) -> None:
    movements: Sequence[Movement] = accounting.movements
    await connection.execute(_SETTLED, {"partner_id": audited.id, "settled_at": accounting.settled.at})
    between = {"froms": [movement.start.at for movement in movements], "tos": [movement.end.at for movement in movements]}
    await connection.execute(_FORGET, between | audited.key)
    found = {
        "now": runtime.clock.now(),
        "ids": [runtime.new_id() for _ in movements],
        "amounts": [movement.amount.cents for movement in movements],
        "drawns": [movement.drawn.cents for movement in movements],
        "settleds": [accounting.is_settled(movement) for movement in movements],
    }
    await connection.execute(_NOTE, found | between | audited.key)


async def _keep_case(connection: AsyncConnection, runtime: Runtime, audited: _Audited) -> int:
    name = {"kind": GAP_CASE, "subject": audited.subject}
    standing = (await connection.execute(_CASE, name)).one_or_none()
    # What a person closed the last case over is theirs.
    after = (await connection.execute(_LAST_CLOSED, name)).scalar_one()
    gaps = (await connection.execute(_GAPS, {"partner_id": audited.id, "after": after})).all()
    if not gaps:
        if standing is not None:
            resolution = "payments that were heard of later explain it"
            await close_case(connection, runtime.clock, resolution=resolution, **name)
        return 0
    missing = -sum((Money(gap.amount_cents) for gap in gaps), ZERO)
    evidence = {
        "short_code": audited.short_code,
        "missing": str(missing),
        "gaps": [_gap(gap) for gap in gaps[-_MOST_SHOWN:]],
        "do": "look in the M-Pesa portal for what left the utility account between these moments and is no payout of ours: a "
        "transfer to the working account, charges that were collected, a payout made by hand",
    }
    if standing is None:
        new = NewCase(GAP_CASE, audited.subject, audited.id, missing, evidence)
        await open_cases(connection, runtime.clock, runtime.new_id, [new])
    elif standing.amount_cents != missing.cents:
        await connection.execute(_GROW, {"cents": missing.cents, "evidence": evidence, **name})
    return len(gaps)


def _gap(row: Row[Any]) -> dict[str, Any]:
    def moved(before: int | None, after: int | None) -> str | None:
        return None if before is None or after is None else str(Money(after - before))

    return {
        "from": row.from_at.isoformat(),
        "to": row.to_at.isoformat(),
        "told_before": str(Money(row.utility_before)),
        "told_after": str(Money(row.utility_after)),
        "we_paid": str(Money(row.drawn_cents)),
        "missing": ("" if row.settled else "at least ") + str(Money(-row.amount_cents)),
        "working_account_moved": moved(row.working_before, row.working_after),
        "charges_paid_account_moved": moved(row.charges_before, row.charges_after),
    }
