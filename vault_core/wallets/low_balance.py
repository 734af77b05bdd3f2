"""What a wallet spends, how long it lasts at that rate, and what to pay in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import business_day, day_bounds
from vault_core.identifiers import lowest_id_at
from vault_core.money import ZERO, Money
from vault_core.wallets.alerts import line_of_end

BURN_DAYS = 7  # today and the six Nairobi days before it
COVERED_DAYS = 14  # what a recommended top-up lasts at that rate

# Up to a bound, the step that a recommended top-up is rounded up to; above the last bound the widest.
_STEPS = ((Money.shillings(10_000), Money.shillings(500)), (Money.shillings(100_000), Money.shillings(1_000)))
_WIDEST_STEP = Money.shillings(10_000)


@dataclass(frozen=True, slots=True)
class Burn:
    """What a wallet was charged, net of what was given back, in the last `days` Nairobi days, today included.

    `days` is 7, or less for a wallet whose first entry is younger. Top-ups and corrections are no burn.
    """

    spent: Money
    days: int

    @property
    def daily(self) -> Money:
        """The average of a day, rounded up to the cent; zero if nothing was spent on balance."""
        return Money(max(0, -(-self.spent.cents // self.days)))


NO_BURN = Burn(ZERO, 1)


def days_left(available: Money, burn: Burn) -> int | None:
    """For how many whole days `available` lasts; None if nothing is being spent."""
    if not burn.daily:
        return None
    return max(0, available.cents // burn.daily.cents)


def recommended_topup(available: Money, burn: Burn, threshold: Money, waiting: Money = ZERO) -> Money:
    """What to pay in now, a round amount; zero if nothing is needed.

    After it the wallet covers what payouts wait for (`waiting`), and beyond that two weeks at the present rate, or what ends a
    low-balance alert if that is more.
    """
    missing = waiting + max(burn.daily * COVERED_DAYS, line_of_end(threshold)) - available
    return round_up(missing) if missing > ZERO else ZERO


def round_up(amount: Money) -> Money:
    """The next round amount that is not less: to 500 shillings up to 10,000, to 1,000 up to 100,000, then to 10,000."""
    step = next((step for bound, step in _STEPS if amount <= bound), _WIDEST_STEP)
    return Money(-(-amount.cents // step.cents) * step.cents)


# A reversal is netted with what it reverses; what people put in or put right is no burn. The ids of entries carry the time of
# their booking, which is never before it happened: so only the partitions and rows since the window's start are read.
_BURNS = text(
    """
    SELECT a.partner_id, first.effective_at AS began, coalesce(recent.cents, 0)::bigint AS spent_cents
    FROM ledger_accounts a
    JOIN ledger_entries e ON e.account_id = a.id AND e.account_version = 1
    JOIN ledger_transactions first ON first.id = e.transaction_id
    LEFT JOIN LATERAL (
        SELECT sum(spent.amount_cents) AS cents FROM ledger_entries spent
        JOIN ledger_transactions t ON t.id = spent.transaction_id
        LEFT JOIN ledger_transactions o ON o.id = t.reverses
        WHERE spent.account_id = a.id AND spent.transaction_id >= :lowest_id
              AND t.effective_at >= :since AND t.effective_at <= :now
              AND coalesce(o.kind, t.kind) NOT IN ('topup', 'correction')) AS recent ON true
    WHERE a.code = 'wallet' AND a.partner_id = ANY(:partner_ids)
    """
)


async def load_burns(connection: AsyncConnection, now: datetime, partner_ids: Sequence[UUID]) -> Mapping[UUID, Burn]:
    """The burn of each partner's wallet; of one that was never used, none."""
    today = business_day(now)
    since, _ = day_bounds(today - timedelta(days=BURN_DAYS - 1))
    rows = await connection.execute(
        _BURNS, {"partner_ids": list(partner_ids), "since": since, "now": now, "lowest_id": lowest_id_at(since)}
    )
    burns = dict.fromkeys(partner_ids, NO_BURN)
    for row in rows:
        age = (today - business_day(row.began)).days + 1
        burns[row.partner_id] = Burn(Money(row.spent_cents), max(1, min(BURN_DAYS, age)))
    return burns
