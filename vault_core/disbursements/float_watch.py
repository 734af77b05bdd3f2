"""What a worker does about a short float by the clock: lets go what a balance covers, tells people once, ends the shortage.

Where M-Pesa tells no balance at all (the initiator may lack the role for the question), a payout goes as a probe now and then:
its result tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.database import in_transaction
from vault_core.disbursements.float_reports import read_float
from vault_core.disbursements.float_rules import Float, covered, in_turn
from vault_core.money import ZERO, Money
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.partners.partner import Partner, load_partner
from vault_core.runtime import Runtime

FLOAT_CASE = "float_short"

# The gate may hold a payout at the very moment at which the shortage ends.
_BEGIN_MISSED = text(
    """
    INSERT INTO b2c_floats AS f (partner_id, short_since, query_at)
    SELECT DISTINCT d.partner_id, CAST(:now AS timestamptz), CAST(:now AS timestamptz)
    FROM disbursements d LEFT JOIN b2c_floats s ON s.partner_id = d.partner_id
    WHERE d.state = 'held' AND d.held_for = 'float_short' AND s.short_since IS NULL ORDER BY 1
    ON CONFLICT (partner_id) DO UPDATE SET short_since = excluded.short_since, query_at = excluded.query_at
    WHERE f.short_since IS NULL
    """
)
_SHORT = text(
    """
    SELECT f.partner_id FROM b2c_floats f JOIN partners p ON p.id = f.partner_id
    WHERE f.short_since IS NOT NULL AND p.state = 'active' AND NOT EXISTS (SELECT FROM payout_halts WHERE ended_at IS NULL)
    ORDER BY f.partner_id
    """
)
_LOCK = text("SELECT * FROM b2c_floats WHERE partner_id = :partner_id AND short_since IS NOT NULL FOR UPDATE SKIP LOCKED")
_WAITING = text(
    """
    SELECT d.id, d.payout_cents, d.detected_at, d.loan_id FROM disbursements d
    WHERE d.partner_id = :partner_id AND d.state = 'held' AND d.held_for = 'float_short' ORDER BY d.id FOR UPDATE SKIP LOCKED
    """
)
# Let go already and not claimed yet: it draws on the same money.
_READY = text(
    "SELECT coalesce(sum(payout_cents), 0)::bigint FROM disbursements WHERE partner_id = :partner_id AND state = 'ready'"
)
_LET_GO = text(
    """
    UPDATE disbursements SET state = 'ready', held_for = NULL, reason = NULL, batch_id = NULL, due_at = :now WHERE id = ANY(:ids)
    """
)
_PROBE = text("UPDATE b2c_floats SET probe_id = :id, probed_at = :now WHERE partner_id = :partner_id")
_PROBE_OVER = text(
    """
    UPDATE b2c_floats SET probe_id = NULL
    WHERE partner_id = :partner_id AND probe_id IN (
        SELECT id FROM disbursements WHERE state NOT IN ('ready', 'sending', 'accepted', 'unknown', 'refused'))
    """
)
_TOLD = text("UPDATE b2c_floats SET told_at = :now WHERE partner_id = :partner_id")
_ANY_LEFT = text(
    "SELECT EXISTS (SELECT FROM disbursements WHERE partner_id = :partner_id AND state = 'held' AND held_for = 'float_short')"
)
# After a refusal it is over when a later payout was paid, or nothing is on its way that could be refused, too.
_WORKS_AGAIN = text(
    """
    SELECT EXISTS (SELECT FROM disbursement_attempts WHERE partner_id = :partner_id AND written_at > :since AND state = 'paid')
        OR NOT EXISTS (SELECT FROM disbursement_attempts WHERE partner_id = :partner_id AND state IN ('written', 'accepted'))
    """
)
_END = text(
    """
    UPDATE b2c_floats SET short_since = NULL, refused_at = NULL, told_at = NULL, query_at = NULL, probe_id = NULL,
           probed_at = NULL
    WHERE partner_id = :partner_id
    """
)


@dataclass(frozen=True, slots=True)
class FloatWaiter:
    """A payout that waits for float, locked."""

    id: UUID
    payout: Money
    detected_at: datetime
    loan_id: int


async def watch_floats(runtime: Runtime) -> int:
    """Looks at every shortage of an active partner once and returns how many payouts were let go."""

    async def find(connection: AsyncConnection) -> Sequence[UUID]:
        await connection.execute(_BEGIN_MISSED, {"now": runtime.clock.now()})
        return (await connection.execute(_SHORT)).scalars().all()

    short = await in_transaction(runtime.engine, find)
    released = 0
    for partner_id in short:
        released += await in_transaction(runtime.engine, _Look(runtime, partner_id).take)
    return released


@dataclass(frozen=True, slots=True)
class _Look:
    runtime: Runtime
    partner_id: UUID

    async def take(self, connection: AsyncConnection) -> int:
        me = {"partner_id": self.partner_id}
        await connection.execute(_PROBE_OVER, me)
        row = (await connection.execute(_LOCK, me)).one_or_none()
        if row is None:
            return 0  # another worker looks at it, or it is over
        found = await read_float(connection, self.partner_id)
        waiting = [
            FloatWaiter(one.id, Money(one.payout_cents), one.detected_at, one.loan_id)
            for one in await connection.execute(_WAITING, me)
        ]
        going = await self._covered(connection, found, waiting)
        if not going and waiting and self._is_probe_due(row, found):
            probe = min(waiting, key=lambda one: (one.payout.cents, one.detected_at))
            await connection.execute(_PROBE, {"id": probe.id, "now": self.runtime.clock.now(), **me})
            going = [probe]
        await connection.execute(_LET_GO, {"ids": [one.id for one in going], "now": self.runtime.clock.now()})
        gone = {one.id for one in going}
        if left := [one for one in waiting if one.id not in gone]:
            await self._tell(connection, row, found, left)
        elif not found.is_paused and not (await connection.execute(_ANY_LEFT, me)).scalar_one():
            await self._end(connection, row, found)
        return len(going)

    async def _covered(self, connection: AsyncConnection, found: Float, waiting: Sequence[FloatWaiter]) -> list[FloatWaiter]:
        if found.is_paused or not waiting:
            return []
        ready = Money((await connection.execute(_READY, {"partner_id": self.partner_id})).scalar_one())
        room = None if found.expected is None else found.expected - ready
        return covered(in_turn(waiting, self.runtime.pace.first_served), room)[0]

    def _is_probe_due(self, row: Row[Any], found: Float) -> bool:
        if row.probe_id is not None:
            return False
        told = found.report.received_at if found.report is not None else row.short_since
        last = max(moment for moment in (told, row.short_since, row.refused_at, row.probed_at) if moment is not None)
        return self.runtime.clock.now() - last >= probe_after(self.runtime)

    async def _tell(self, connection: AsyncConnection, row: Row[Any], found: Float, left: Sequence[FloatWaiter]) -> None:
        now = self.runtime.clock.now()
        patience = timedelta(seconds=2 * self.runtime.pace.balance_query_every)
        fresh = found.report is not None and found.report.received_at >= row.short_since
        # An old balance may miss float that was bought since: M-Pesa is asked before people are alarmed.
        if row.told_at is not None or not (row.refused_at is not None or fresh or now - row.short_since >= patience):
            return
        partner = await load_partner(connection, id=self.partner_id)
        needed = sum((one.payout for one in left), ZERO)
        missing = needed if found.is_paused or found.expected is None else needed - max(found.expected, ZERO)
        await open_cases(
            connection, self.runtime.clock, self.runtime.new_id, [_case(partner, found, row, len(left), needed, missing)]
        )
        values = {
            "short_code": partner.b2c_short_code,
            "waiting": f"{len(left)} {'payout waits' if len(left) == 1 else 'payouts wait'}",
            "needed": str(needed),
            "missing": str(missing),
        }
        fact = f"float_short:{partner.id}:{row.short_since.isoformat()}"
        await tell_partners(connection, self.runtime, [PartnerText(partner, fact, "float_short", values)])
        await connection.execute(_TOLD, {"partner_id": self.partner_id, "now": now})

    async def _end(self, connection: AsyncConnection, row: Row[Any], found: Float) -> None:
        me = {"partner_id": self.partner_id}
        since = {"since": row.refused_at, **me}
        if row.refused_at is not None and not (await connection.execute(_WORKS_AGAIN, since)).scalar_one():
            return
        await connection.execute(_END, me)
        partner = await load_partner(connection, id=self.partner_id)
        seen = "no balance was ever told" if found.report is None else f"M-Pesa told {found.report.utility}"
        resolution = f"nothing waits for float any more ({seen})"
        await close_case(connection, self.runtime.clock, kind=FLOAT_CASE, subject=_subject(partner), resolution=resolution)


def probe_after(runtime: Runtime) -> timedelta:
    """How long M-Pesa tells no balance before a payout is let go to find out."""
    return timedelta(seconds=max(3 * runtime.pace.balance_query_every, runtime.pace.payout_retry_base))


def _subject(partner: Partner) -> str:
    return f"float of {partner.name}"


def _case(partner: Partner, found: Float, row: Row[Any], payouts: int, needed: Money, missing: Money) -> NewCase:
    report = found.report
    return NewCase(
        kind=FLOAT_CASE,
        subject=_subject(partner),
        partner_id=partner.id,
        amount=missing,
        evidence={
            "short_code": partner.b2c_short_code,
            "payouts_waiting": payouts,
            "needed": str(needed),
            "missing": str(missing),
            "expected": None if found.expected is None else str(found.expected),
            "told": None if report is None else str(report.utility),
            "told_at": None if report is None else report.at.isoformat(),
            "under_way": str(found.drawing),
            "refused_at": row.refused_at.isoformat() if row.refused_at is not None else None,
            "do": "buy float for the short code's utility account; the payouts go and this case closes by themselves",
        },
    )
