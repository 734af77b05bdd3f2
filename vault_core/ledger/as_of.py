"""Balances as of any instant: everything before it counts, nothing at or after it does.

Two times, two questions. By effective time: what had happened by then, as we know it today. What is effective before a closing is
final; what was told of later counts from the opening of the period it was carried into. By booked time: what our books said at
that instant; that never changes.

Cost. Effective: the nearest of the closing before, the closing after and the present is the base, and only what lies between it
and the instant is added or taken off. Booked: each account's entry at that instant is found by halving its versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.identifiers import lowest_id_at
from vault_core.ledger.balances import HOUSE, TrialLine
from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money

By = Literal["effective", "booked"]

# How far an entry's id and its account version may be from the order of booked times: a posting takes its time and ids, then may
# wait for its accounts' locks. Ids within five minutes of booked_at are the database's rule (revision 0011).
BOOKED_WITHIN = timedelta(minutes=15)
_FOREVER = datetime(9999, 12, 31, tzinfo=UTC)

_CLOSINGS = text(
    """
    (SELECT number, closed_before FROM ledger_closings WHERE closed_before <= :before ORDER BY closed_before DESC LIMIT 1)
    UNION ALL
    (SELECT number, closed_before FROM ledger_closings WHERE closed_before > :before ORDER BY closed_before LIMIT 1)
    """
)
# OFFSET 0 keeps the look-ups of a transaction's entries what they are: one partition each. The planner would rather read all
# entries there are, because it counts a look-up in every partition.
_EFFECTIVE = """
    SELECT a.partner_id, a.code, sum(
        CASE WHEN CAST(:closing AS bigint) IS NULL THEN a.balance_cents ELSE coalesce(c.balance_cents, 0) END
        + :sign * coalesce(moved.cents, 0))::bigint AS cents
    FROM ledger_accounts a
    LEFT JOIN ledger_closing_balances c ON c.closing = :closing AND c.account_id = a.id
    LEFT JOIN (
        SELECT e.account_id, sum(e.amount_cents) AS cents
        FROM ledger_transactions t
        CROSS JOIN LATERAL (
            SELECT account_id, amount_cents FROM ledger_entries WHERE transaction_id = t.id OFFSET 0) AS e
        WHERE t.effective_at >= :low AND t.effective_at < :high {and_of_partner} GROUP BY e.account_id
    ) AS moved ON moved.account_id = a.id
    WHERE (CAST(:scope AS uuid) IS NULL OR a.scope = :scope) AND (CAST(:code AS text) IS NULL OR a.code = :code)
    GROUP BY a.partner_id, a.code ORDER BY a.partner_id NULLS FIRST, a.code
    """
_EFFECTIVE_OF_ALL = text(_EFFECTIVE.format(and_of_partner=""))
_EFFECTIVE_OF_PARTNER = text(_EFFECTIVE.format(and_of_partner="AND t.partner_id = :scope"))
_BOOKED = text(
    """
    SELECT a.partner_id, a.code, sum(coalesce(settled.balance_after_cents, 0) + near.cents)::bigint AS cents
    FROM ledger_accounts a
    CROSS JOIN LATERAL (SELECT ledger_version_before(a.id, :low_id) AS settled OFFSET 0) AS low
    CROSS JOIN LATERAL (
        SELECT low.settled, ledger_version_before(a.id, :high_id, low.settled) AS reach OFFSET 0) AS versions
    LEFT JOIN ledger_entries settled ON settled.account_id = a.id AND settled.account_version = versions.settled
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(e.amount_cents), 0) AS cents
        FROM ledger_entries e
        CROSS JOIN LATERAL (
            SELECT FROM ledger_transactions WHERE id = e.transaction_id AND booked_at < :before OFFSET 0) AS t
        WHERE e.account_id = a.id AND e.account_version > versions.settled AND e.account_version <= versions.reach) AS near
    WHERE (CAST(:scope AS uuid) IS NULL OR a.scope = :scope) AND (CAST(:code AS text) IS NULL OR a.code = :code)
    GROUP BY a.partner_id, a.code ORDER BY a.partner_id NULLS FIRST, a.code
    """
)


@dataclass(frozen=True, slots=True)
class KnownClosing:
    """A closing whose balances stand: everything effective before `closed_before`."""

    number: int
    closed_before: datetime


@dataclass(frozen=True, slots=True)
class Base:
    """What a balance is counted from: a closing (None: the present), and what is effective in [low, high), times `sign`."""

    closing: int | None
    low: datetime
    high: datetime
    sign: Literal[1, -1]


def nearest_base(before: datetime, closings: Sequence[KnownClosing], now: datetime) -> Base:
    """The base with the least time between it and `before`. Every base gives the same balance; `now` only weighs the cost."""
    later = [closing for closing in closings if closing.closed_before > before]
    bases = [
        Base(closing.number, closing.closed_before, before, 1)
        if closing.closed_before <= before
        else Base(closing.number, before, closing.closed_before, -1)
        for closing in closings
    ]
    if not later:
        bases.append(Base(None, before, _FOREVER, -1))
    return min(bases, key=lambda base: (min(base.high, max(now, base.low)) - base.low, base.closing is None))


async def balance_before(connection: AsyncConnection, ref: AccountRef, before: datetime, by: By, *, now: datetime) -> Money:
    """The account's balance, in its normal side, of all that is effective (or was booked) before `before`. Locks nothing."""
    lines = await trial_balance_before(connection, before, by, now=now, owner=ref.partner_id or HOUSE, code=ref.code)
    return sum((line.balance for line in lines), ZERO)


async def trial_balance_before(
    connection: AsyncConnection,
    before: datetime,
    by: By,
    *,
    now: datetime,
    owner: UUID | None = None,
    code: str | None = None,
) -> list[TrialLine]:
    """Every account's balance before that instant, the house's first; or only those of `owner` (a partner, or HOUSE) or `code`.

    The debits and the credits of all accounts of a sound ledger sum to the same at every instant.
    """
    values = {"scope": owner, "code": code}
    if by == "booked":
        bounds = {"low_id": lowest_id_at(before - BOOKED_WITHIN), "high_id": lowest_id_at(before + BOOKED_WITHIN)}
        rows = await connection.execute(_BOOKED, {**values, **bounds, "before": before})
    else:
        closings = [
            KnownClosing(row.number, row.closed_before) for row in await connection.execute(_CLOSINGS, {"before": before})
        ]
        base = nearest_base(before, closings, now)
        query = _EFFECTIVE_OF_ALL if owner in (None, HOUSE) else _EFFECTIVE_OF_PARTNER
        span = {"closing": base.closing, "low": base.low, "high": base.high, "sign": base.sign}
        rows = await connection.execute(query, {**values, **span})
    return [TrialLine.of(AccountRef(row.partner_id, row.code), row.cents) for row in rows]
