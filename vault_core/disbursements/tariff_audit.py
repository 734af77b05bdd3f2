"""The tariff audit: the fee that M-Pesa took for a payout, compared with the price list of its day.

Two sources (reference/daraja.md 3, 6.1). A status answer names the fee. A B2C result has the balance of the charges-paid account
after it: of two neighbouring balances with nothing unknown between them, the fall is the fee of the second payout. Results come
in any order and payouts run side by side, so neighbours are found by the balance itself, not by the time, which is exact to the
second only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.errors import ConfigurationError
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.tariffs import TariffBook, load_tariffs

TARIFF_DIFFERENCE = "tariff_difference"

SLACK = timedelta(seconds=10)  # how far apart the order of balances and that of the stated times may be
_MOST = 5_000
_FROM_BALANCES = 2  # one odd fall may be a payment somebody made in the portal; M-Pesa's own word needs no second


@dataclass(frozen=True, slots=True)
class BalanceReading:
    """The charges-paid balance after one payout."""

    attempt_id: UUID
    paid_at: datetime
    balance: Money


def fees_taken(readings: Sequence[BalanceReading], unread: Sequence[datetime] = ()) -> dict[UUID, Money]:
    """The fee of each payout whose balance has a known neighbour before it, of one short code's `readings` in any order.

    `unread`: when payouts happened of which no balance is known; no fee is read across them. A rise of the balance by a top-up
    ends a stretch: the payouts around it have no known neighbour there. Every payout up to the last reading must be in one of
    the two.
    """
    taken: dict[UUID, Money] = {}
    for stretch in _stretches(sorted(readings, key=lambda one: (one.paid_at, -one.balance.cents))):
        in_order = sorted(stretch, key=lambda one: (-one.balance.cents, one.paid_at))
        for before, after in pairwise(in_order):
            first, last = sorted((before.paid_at, after.paid_at))
            if not any(first - SLACK <= moment <= last + SLACK for moment in unread):
                taken[after.attempt_id] = before.balance - after.balance
    return taken


def _stretches(by_time: Sequence[BalanceReading]) -> list[list[BalanceReading]]:
    """Parts of the readings in which the balance only falls, but for disorder within SLACK. Just before a rise, none."""
    parts: list[list[BalanceReading]] = [[]]
    lowest, settled = None, 0  # of the part: the least balance of its first `settled` readings, all older than SLACK
    for one in by_time:
        part = parts[-1]
        while settled < len(part) and part[settled].paid_at < one.paid_at - SLACK:
            lowest = part[settled].balance if lowest is None else min(lowest, part[settled].balance)
            settled += 1
        if lowest is not None and lowest < one.balance:
            del part[settled:]  # the rise came among these: before or after them, nobody can say
            parts.append([])
            lowest, settled = None, 0
        parts[-1].append(one)
    return parts


_OPEN_CODES = text(
    """
    SELECT DISTINCT r.partner_id, r.short_code FROM mpesa_fee_readings r WHERE r.judged_at IS NULL AND r.paid_at < :until
    """
)
# One worker judges a short code at a time.
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('tariff audit ' || CAST(:short_code AS text), 0))")
# Until here every payout of the partner has its verdict: an open one may have taken its fee anywhere after it was written.
_KNOWN_UNTIL = text(
    """
    SELECT least(CAST(:until AS timestamptz), min(written_at) - CAST(:slack AS interval)) FROM disbursement_attempts
    WHERE partner_id = :partner_id AND state IN ('written', 'accepted', 'unknown')
    """
)
_FROM = text(
    """
    SELECT coalesce((SELECT max(paid_at) FROM mpesa_fee_readings
                     WHERE short_code = :short_code AND said_by = 'result' AND judged_at IS NOT NULL
                       AND paid_at < (SELECT min(paid_at) FROM mpesa_fee_readings
                                      WHERE short_code = :short_code AND judged_at IS NULL) - CAST(:slack AS interval)),
                    (SELECT min(paid_at) FROM mpesa_fee_readings WHERE short_code = :short_code)) AS start
    """
)
_READINGS = text(
    """
    SELECT attempt_id, said_by, paid_at, amount_cents, charges_balance_cents, fee_cents, judged_at IS NULL AS open
    FROM mpesa_fee_readings WHERE short_code = :short_code AND paid_at >= :start AND paid_at < :until ORDER BY paid_at LIMIT :most
    """
)
_UNREAD = text(
    """
    SELECT coalesce(d.paid_at, a.result_at) AS paid_at
    FROM disbursement_attempts a JOIN disbursements d ON d.id = a.disbursement_id
    WHERE a.partner_id = :partner_id AND a.state = 'paid' AND a.result_at >= :start
      AND NOT EXISTS (SELECT FROM mpesa_fee_readings r WHERE r.attempt_id = a.id AND r.said_by = 'result')
    """
)
_TERMS = text(
    "SELECT b2c_tariff, b2c_short_code = c2b_short_code AND c2b_bouquet <> 'business' AS collects FROM partners WHERE id = :id"
)
_JUDGED = text(
    """
    UPDATE mpesa_fee_readings r SET judged_at = :now, tariff_band_id = said.band, fee_cents = said.fee
    FROM unnest(CAST(:ids AS uuid[]), CAST(:said_by AS text[]), CAST(:bands AS bigint[]), CAST(:fees AS bigint[]))
         AS said(id, said_by, band, fee)
    WHERE r.attempt_id = said.id AND r.said_by = said.said_by AND r.judged_at IS NULL
    """
)
# A band's fee has changed when, since the first payout with the other fee, that fee is what most payouts were taken, and the
# table's is what none was: a payment made in the portal shows as one odd fall among many that agree.
_DIFFERENCES = text(
    """
    WITH said AS (
        SELECT r.partner_id, r.short_code, r.tariff_band_id, due.cents AS due, r.fee_cents AS taken, r.said_by, r.paid_at,
               r.receipt
        FROM mpesa_fee_readings r
        JOIN unnest(CAST(:bands AS bigint[]), CAST(:dues AS bigint[])) AS due(band, cents) ON due.band = r.tariff_band_id
        JOIN tariff_bands b ON b.id = r.tariff_band_id JOIN tariffs t ON t.id = b.tariff_id
        WHERE r.partner_id = :partner_id AND r.fee_cents IS NOT NULL AND r.paid_at >= :since
          AND r.paid_at > coalesce((SELECT max(c.closed_at) FROM cases c  -- what a person has dealt with opens nothing anew
                                    WHERE c.kind = :kind AND starts_with(c.subject, r.short_code || ' ' || t.product || ' band '
                                                                                   || r.tariff_band_id || ' ')), '-infinity')
    ), odd AS (
        SELECT partner_id, short_code, tariff_band_id, due, taken, min(paid_at) AS first_at, count(DISTINCT receipt) AS payouts,
               bool_or(said_by = 'status_answer') AS stated, min(receipt) AS example
        FROM said WHERE taken <> due GROUP BY 1, 2, 3, 4, 5
    )
    SELECT odd.*, t.provider, t.product, t.valid_from, t.source, b.from_cents, b.to_cents, b.confirmed
    FROM odd JOIN tariff_bands b ON b.id = odd.tariff_band_id JOIN tariffs t ON t.id = b.tariff_id
    WHERE odd.stated OR (
        odd.payouts >= :enough
        AND NOT EXISTS (SELECT FROM said s
                        WHERE s.tariff_band_id = odd.tariff_band_id AND s.taken = s.due AND s.paid_at > odd.first_at)
        AND 2 * odd.payouts > (SELECT count(DISTINCT s.receipt) FROM said s
                               WHERE s.tariff_band_id = odd.tariff_band_id AND s.paid_at >= odd.first_at))
    ORDER BY odd.first_at
    """
)
_LOOKED_BACK = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class _Reading:
    attempt_id: UUID
    said_by: str
    paid_at: datetime
    amount: Money
    balance: Money | None
    fee: Money | None
    open: bool


async def audit_tariffs(runtime: Runtime) -> int:
    """Judges what M-Pesa said of its fees since the last time and returns how many payouts that were.

    A difference opens one case `tariff_difference` a partner, band and direction, which names both fees, the first day and the
    payouts seen. Safe to repeat and to run in several processes.
    """
    until = runtime.clock.now() - timedelta(seconds=runtime.pace.fees_settle_after)

    async def work(connection: AsyncConnection) -> int:
        codes = (await connection.execute(_OPEN_CODES, {"until": until})).all()
        if not codes:
            return 0
        tariffs = await load_tariffs(connection)
        return sum([await _audit_code(connection, runtime, tariffs, row.partner_id, row.short_code, until) for row in codes])

    return await in_transaction(runtime.engine, work)


async def _audit_code(
    connection: AsyncConnection, runtime: Runtime, tariffs: TariffBook, partner_id: UUID, short_code: str, until: datetime
) -> int:
    if not (await connection.execute(_TURN, {"short_code": short_code})).scalar_one():
        return 0
    at = {"partner_id": partner_id, "short_code": short_code, "slack": SLACK}
    known = (await connection.execute(_KNOWN_UNTIL, {**at, "until": until})).scalar_one()
    start = (await connection.execute(_FROM, at)).scalar_one()
    readings = await _read(connection, short_code, start, known)
    to_judge = [one for one in readings if one.open]
    if not to_judge:
        return 0
    unread = (await connection.execute(_UNREAD, {"partner_id": partner_id, "start": readings[0].paid_at})).scalars().all()
    terms = (await connection.execute(_TERMS, {"id": partner_id})).one()
    # A short code that also collects pays its part of those fees from the same account: its balances tell nothing of payouts.
    balances = [
        BalanceReading(one.attempt_id, one.paid_at, one.balance)
        for one in readings
        if one.balance is not None and not terms.collects
    ]
    taken = fees_taken(balances, unread)
    await connection.execute(_JUDGED, _judgements(runtime, tariffs, terms.b2c_tariff, to_judge, taken))
    await _open_differences(connection, runtime, tariffs, partner_id)
    return len(to_judge)


async def _read(connection: AsyncConnection, short_code: str, start: datetime, until: datetime) -> list[_Reading]:
    rows = await connection.execute(_READINGS, {"short_code": short_code, "start": start, "until": until, "most": _MOST})
    return [
        _Reading(
            row.attempt_id,
            row.said_by,
            row.paid_at,
            Money(row.amount_cents),
            None if row.charges_balance_cents is None else Money(row.charges_balance_cents),
            None if row.fee_cents is None else Money(row.fee_cents),
            row.open,
        )
        for row in rows
    ]


def _judgements(
    runtime: Runtime, tariffs: TariffBook, product: str, readings: Sequence[_Reading], taken: Mapping[UUID, Money]
) -> dict[str, object]:
    fees = [one.fee if one.said_by == "status_answer" else taken.get(one.attempt_id) for one in readings]
    return {
        "now": runtime.clock.now(),
        "ids": [one.attempt_id for one in readings],
        "said_by": [one.said_by for one in readings],
        "bands": [_band_id(tariffs, product, one) for one in readings],
        "fees": [None if fee is None else fee.cents for fee in fees],
    }


def _band_id(tariffs: TariffBook, product: str, one: _Reading) -> int | None:
    try:
        return tariffs.band("safaricom", product, business_day(one.paid_at), one.amount).id
    except ConfigurationError:
        return None  # a payout that no list prices was stopped or is a case already


def _dues(tariffs: TariffBook) -> dict[int, int]:
    """What a payout of each band is due, in cents. A band by rate has no one fee, and is not held against what was taken."""
    fixed = [(its, band) for its in tariffs.tariffs for band in its.bands if not band.rate_basis_points]
    return {band.id: its.with_excise(band.fee).paid.cents for its, band in fixed}


async def _open_differences(connection: AsyncConnection, runtime: Runtime, tariffs: TariffBook, partner_id: UUID) -> None:
    dues = _dues(tariffs)
    asked = {
        "partner_id": partner_id,
        "since": runtime.clock.now() - _LOOKED_BACK,
        "enough": _FROM_BALANCES,
        "kind": TARIFF_DIFFERENCE,
        "bands": list(dues),
        "dues": list(dues.values()),
    }
    rows = await connection.execute(_DIFFERENCES, asked)
    cases = [
        NewCase(
            kind=TARIFF_DIFFERENCE,
            subject=f"{row.short_code} {row.product} band {row.tariff_band_id} {'more' if row.taken > row.due else 'less'}",
            partner_id=partner_id,
            amount=Money(abs(row.taken - row.due)),
            evidence={
                "provider": row.provider,
                "product": row.product,
                "price_list_of": str(row.valid_from),
                "source": row.source,
                "band": f"{Money(row.from_cents)} to {Money(row.to_cents)}",
                "band_confirmed": row.confirmed,
                "table_fee": str(Money(row.due)),
                "fee_taken": str(Money(row.taken)),
                "first_day": str(business_day(row.first_at)),
                "payouts_seen": row.payouts,
                "example_receipt": row.example,
                "said_by": "M-Pesa's status answer" if row.stated else "the charges-paid balances of results",
                "what_to_do": "get the new price list from Safaricom and bring it in with `vault tariff import`; put right what "
                "was charged since the first day with `vault wallet adjust`",
            },
        )
        for row in rows
    ]
    await open_cases(connection, runtime.clock, runtime.new_id, cases)
