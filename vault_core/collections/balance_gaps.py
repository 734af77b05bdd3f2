"""Holding the balances that confirmations tell against one another: money that nobody told us of is pulled for, and is a case."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import JSON, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.collections.balance_chain import REORDERED_WITHIN, Break, ToldBalance, follow
from vault_core.database import in_transaction
from vault_core.money import ZERO, Money
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

GAP_CASE = "balance_gap"

LATE_EVIDENCE = timedelta(days=60)  # a gap that is older is not looked at again by itself
_STARTS_BACK = timedelta(days=2)  # a pay bill that was never checked is checked from here on: so far back a pull reaches
_MOST_AT_ONCE = 5_000
_MOST_SHOWN = 20

_TO_DO = text(
    """
    SELECT p.id AS partner_id, p.name, p.c2b_short_code AS short_code
    FROM partners p LEFT JOIN org_balance_checks k ON k.short_code = p.c2b_short_code
    WHERE EXISTS (SELECT FROM collections c WHERE c.partner_id = p.id AND c.short_code = p.c2b_short_code
                  AND c.happened_at > coalesce(k.settled_at, :starts) AND c.happened_at <= :until
                  AND c.org_balance_cents IS NOT NULL)
       OR EXISTS (SELECT FROM org_balance_gaps g WHERE g.short_code = p.c2b_short_code AND g.amount_cents > 0
                  AND g.explained_at IS NULL AND g.found_at > :since)
    ORDER BY p.id
    """
)
# Everything below is read as of one moment: a balance without the payment in it would look like a gap.
_ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('balance check ' || :short_code, 0))")
_SETTLED = text("SELECT settled_at, settled_cents, settled_receipt FROM org_balance_checks WHERE short_code = :short_code")
# What was told since, and what M-Pesa may have done after it though it says a moment before.
_TOLD = text(
    """
    (SELECT receipt, happened_at, amount_cents, org_balance_cents FROM collections
     WHERE partner_id = :partner_id AND short_code = :short_code AND org_balance_cents IS NOT NULL
           AND happened_at > :settled_at AND happened_at <= :until
     ORDER BY happened_at LIMIT :most)
    UNION ALL
    (SELECT receipt, happened_at, amount_cents, org_balance_cents FROM collections
     WHERE partner_id = :partner_id AND short_code = :short_code AND org_balance_cents IS NOT NULL
           AND happened_at > :settled_at - :reordered AND happened_at <= :settled_at
     ORDER BY happened_at DESC LIMIT :most)
    """
)
_SETTLE = text(
    """
    INSERT INTO org_balance_checks (short_code, partner_id, settled_at, settled_cents, settled_receipt)
    VALUES (:short_code, :partner_id, :at, :cents, :receipt)
    ON CONFLICT (short_code) DO UPDATE SET settled_at = excluded.settled_at, settled_cents = excluded.settled_cents,
                                           settled_receipt = excluded.settled_receipt
    """
)
_NOTE = text(
    """
    INSERT INTO org_balance_gaps (id, partner_id, short_code, from_receipt, from_at, from_cents, to_receipt, to_at, to_cents,
                                  found_at)
    SELECT gap.id, :partner_id, :short_code, gap.from_receipt, gap.from_at, gap.from_cents, gap.to_receipt, gap.to_at,
           gap.to_cents, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:from_receipts AS text[]), CAST(:froms AS timestamptz[]),
                CAST(:from_cents AS bigint[]), CAST(:to_receipts AS text[]), CAST(:tos AS timestamptz[]),
                CAST(:to_cents AS bigint[]))
         AS gap(id, from_receipt, from_at, from_cents, to_receipt, to_at, to_cents)
    ON CONFLICT (short_code, from_receipt, to_receipt) DO NOTHING
    """
)
# Of what was told without a balance all that happened at the time counts; with one, only what lies between the two balances.
_EXPLAIN = text(
    """
    UPDATE org_balance_gaps g SET explained_at = :now
    WHERE g.short_code = :short_code AND g.amount_cents > 0 AND g.explained_at IS NULL AND g.found_at > :since
          AND g.amount_cents <= (
              SELECT coalesce(sum(c.amount_cents), 0) FROM collections c
              WHERE c.partner_id = g.partner_id AND c.short_code = g.short_code
                    AND c.receipt NOT IN (g.from_receipt, g.to_receipt)
                    AND c.happened_at >= g.from_at - :reordered AND c.happened_at <= g.to_at + :reordered
                    AND (c.org_balance_cents IS NULL OR (c.org_balance_cents - c.amount_cents >= g.from_cents
                                                         AND c.org_balance_cents <= g.to_cents)))
    """
)
_OPEN = text(
    """
    SELECT * FROM org_balance_gaps
    WHERE short_code = :short_code AND amount_cents > 0 AND explained_at IS NULL AND found_at > :after ORDER BY to_at, from_at
    """
)
_CASE = text("SELECT amount_cents FROM cases WHERE kind = :kind AND subject = :subject AND closed_at IS NULL")
_LAST_CLOSED = text(
    """
    SELECT greatest(CAST(:since AS timestamptz), max(closed_at)) FROM cases
    WHERE kind = :kind AND subject = :subject AND closed_at IS NOT NULL
    """
)
_GROW = text(
    "UPDATE cases SET amount_cents = :cents, evidence = :evidence WHERE kind = :kind AND subject = :subject AND closed_at IS NULL"
).bindparams(bindparam("evidence", type_=JSON))
_PULL = text(
    """
    UPDATE pull_feeds SET next_sweep_at = :now, again_from = least(again_from, :from_at) WHERE short_code = :short_code
    RETURNING short_code
    """
)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A pay bill under check."""

    partner_id: UUID
    name: str
    short_code: str

    @property
    def key(self) -> dict[str, Any]:
        return {"partner_id": self.partner_id, "short_code": self.short_code}

    @property
    def case(self) -> dict[str, str]:
        return {"kind": GAP_CASE, "subject": f"balance of pay bill {self.short_code}"}


async def check_balances(runtime: Runtime) -> int:
    """Checks every pay bill's told balances since the last ones checked; returns how many gaps stand open.

    A new gap has its time pulled at once. One case a pay bill, with every gap in it: it grows with the next one, and closes when
    payments that are heard of later explain them all. Closed by a person, only a new gap opens another. What left the account is
    noted and is no case: withdrawals are not ours to know. Any number of workers may check at once.
    """
    now = runtime.clock.now()
    values = {"starts": now - _STARTS_BACK, "until": _until(runtime), "since": now - LATE_EVIDENCE}
    async with runtime.engine.connect() as connection:
        due = [_Checked(row.partner_id, row.name, row.short_code) for row in await connection.execute(_TO_DO, values)]
    return sum([await in_transaction(runtime.engine, partial(_check, runtime, checked)) for checked in due])


def _until(runtime: Runtime) -> datetime:
    """Confirmations of what happened later may still be on their way."""
    return runtime.clock.now() - timedelta(seconds=runtime.pace.balance_gap_after)


async def _check(runtime: Runtime, checked: _Checked, connection: AsyncConnection) -> int:
    await connection.execute(_ONE_MOMENT)
    if not (await connection.execute(_TURN, {"short_code": checked.short_code})).scalar_one():
        return 0
    new = await _go_on(connection, runtime, checked)
    since = runtime.clock.now() - LATE_EVIDENCE
    await connection.execute(
        _EXPLAIN,
        {"short_code": checked.short_code, "now": runtime.clock.now(), "since": since, "reordered": REORDERED_WITHIN},
    )
    return await _keep_case(connection, runtime, checked, {gap.start.receipt for gap in new if gap.amount > ZERO})


async def _go_on(connection: AsyncConnection, runtime: Runtime, checked: _Checked) -> tuple[Break, ...]:
    settled = (await connection.execute(_SETTLED, {"short_code": checked.short_code})).one_or_none()
    settled_at = runtime.clock.now() - _STARTS_BACK if settled is None else settled.settled_at
    told, sure_until = await _told(connection, checked, settled_at, _until(runtime))
    base = _base(settled, told)
    if base is None:
        return ()
    chain = await asyncio.to_thread(follow, base, told, sure_until)
    await connection.execute(
        _SETTLE, {"at": chain.end.at, "cents": chain.end.after.cents, "receipt": chain.end.receipt, **checked.key}
    )
    if chain.is_unrelated:
        log.warning("balances do not follow from payments", short_code=checked.short_code, payments=chain.told)
        return ()
    await connection.execute(
        _NOTE,
        {
            "now": runtime.clock.now(),
            "ids": [runtime.new_id() for _ in chain.breaks],
            "from_receipts": [gap.start.receipt for gap in chain.breaks],
            "froms": [gap.start.at for gap in chain.breaks],
            "from_cents": [gap.start.after.cents for gap in chain.breaks],
            "to_receipts": [gap.end.receipt for gap in chain.breaks],
            "tos": [gap.end.at for gap in chain.breaks],
            "to_cents": [gap.end.before.cents for gap in chain.breaks],
            **checked.key,
        },
    )
    return chain.breaks


async def _told(
    connection: AsyncConnection, checked: _Checked, settled_at: datetime, until: datetime
) -> tuple[list[ToldBalance], datetime]:
    """What was told since `settled_at`, in one go as far as a worker's time allows, and up to where none of it is missing."""
    values = {"settled_at": settled_at, "until": until, "reordered": REORDERED_WITHIN, "most": _MOST_AT_ONCE, **checked.key}
    told = sorted(
        (
            ToldBalance(row.receipt, row.happened_at, Money(row.amount_cents), Money(row.org_balance_cents))
            for row in await connection.execute(_TOLD, values)
        ),
        key=lambda one: one.at,
    )
    new = [one for one in told if one.at > settled_at]
    if len(new) < _MOST_AT_ONCE:
        return told, until - REORDERED_WITHIN
    last = new[-1].at  # some of its second may not have been read
    return [one for one in told if one.at < last or new[0].at == last], last


def _base(settled: Row[Any] | None, told: list[ToldBalance]) -> ToldBalance | None:
    if settled is None:
        return min((one for one in told if one.is_credible), key=lambda one: (one.at, one.after), default=None)
    known = next((one for one in told if one.receipt == settled.settled_receipt), None)
    return known or ToldBalance(settled.settled_receipt, settled.settled_at, ZERO, Money(settled.settled_cents))


async def _keep_case(connection: AsyncConnection, runtime: Runtime, checked: _Checked, new: set[str]) -> int:
    standing = (await connection.execute(_CASE, checked.case)).one_or_none()
    # What a person closed the last case over is theirs.
    since = {"since": runtime.clock.now() - LATE_EVIDENCE}
    after = (await connection.execute(_LAST_CLOSED, checked.case | since)).scalar_one()
    gaps = (await connection.execute(_OPEN, {"short_code": checked.short_code, "after": after})).all()
    if not gaps:
        if standing is not None:
            resolution = "payments that were heard of later explain it"
            await close_case(connection, runtime.clock, resolution=resolution, **checked.case)
        return 0
    pulled = await _pull(connection, runtime, checked, [gap for gap in gaps if gap.from_receipt in new])
    missing = sum((Money(gap.amount_cents) for gap in gaps), ZERO)
    evidence = {
        "short_code": checked.short_code,
        "came_unexplained": str(missing),
        "gaps": [_shown(gap) for gap in gaps[-_MOST_SHOWN:]],
        "do": ("what M-Pesa lists of this time is being pulled; " if pulled else "")
        + "look in the M-Pesa portal for what came into the account between these payments: a customer's payment comes in by "
        "`vault collections import-statement`; a deposit or transfer of the lender's own is no payment: close the case",
    }
    if standing is None:
        case = NewCase(partner_id=checked.partner_id, amount=missing, evidence=evidence, **checked.case)
        await open_cases(connection, runtime.clock, runtime.new_id, [case])
    elif standing.amount_cents != missing.cents:
        await connection.execute(_GROW, {"cents": missing.cents, "evidence": evidence, **checked.case})
    return len(gaps)


async def _pull(connection: AsyncConnection, runtime: Runtime, checked: _Checked, gaps: list[Row[Any]]) -> bool:
    """Has the time of these gaps pulled at once; False when there are none or the pay bill is not registered for it."""
    if not gaps:
        return False
    values = {
        "now": runtime.clock.now(),
        "from_at": min(gap.from_at for gap in gaps) - REORDERED_WITHIN,
        "short_code": checked.short_code,
    }
    return (await connection.execute(_PULL, values)).one_or_none() is not None


def _shown(gap: Row[Any]) -> dict[str, Any]:
    return {
        "after": f"{gap.from_receipt} at {gap.from_at.isoformat()}, which left {Money(gap.from_cents)}",
        "before": f"{gap.to_receipt} at {gap.to_at.isoformat()}, which found {Money(gap.to_cents)}",
        "came": str(Money(gap.amount_cents)),
    }
