"""Whether the balances in confirmations follow from one another: a rule on values alone.

Each confirmation tells the account's balance after its payment, and so the balance before it: the one that the payment before it
left. Confirmations arrive in any order, and M-Pesa's seconds do not order payments of the same moment; amounts do. Where no known
payment left the balance that one found, something happened in between: money came that nobody told us of, or money went.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vault_core.money import ZERO, Money

# Payments whose times are this close may have been done in the other order.
REORDERED_WITHIN = timedelta(seconds=30)
_MOST_OF_A_MOMENT = 200  # looked at behind a break: so that many breaks in a busy minute cost no minutes
# From so many breaks on, with as large a part of the payments, the balances are not of one account and say nothing.
_UNRELATED_FROM, _UNRELATED_PART = 20, 2


@dataclass(frozen=True, slots=True)
class ToldBalance:
    """A payment with the balance after it."""

    receipt: str
    at: datetime
    amount: Money
    after: Money

    @property
    def before(self) -> Money:
        """The balance that it found."""
        return self.after - self.amount

    @property
    def is_credible(self) -> bool:
        """Whether the account can have had this balance before it."""
        return self.before >= ZERO


@dataclass(frozen=True, slots=True)
class Break:
    """Between two payments something happened that no payment we know of explains."""

    start: ToldBalance
    end: ToldBalance

    @property
    def amount(self) -> Money:
        """Above zero money that came, below zero money that went."""
        return self.end.before - self.start.after


@dataclass(frozen=True, slots=True)
class Chain:
    """All that was told, in the order in which the balances follow; the next told balance goes on from `end`."""

    end: ToldBalance
    breaks: tuple[Break, ...]
    told: int  # payments followed

    @property
    def is_unrelated(self) -> bool:
        """Whether so many do not follow that the balances cannot be of one account that only these payments fill."""
        return len(self.breaks) >= _UNRELATED_FROM and len(self.breaks) * _UNRELATED_PART >= self.told


def follow(base: ToldBalance, told: Sequence[ToldBalance], sure_until: datetime) -> Chain:
    """The chain from `base` through what was told since, and where it breaks. The same whatever the order of arrival was.

    `told` may reach back before the base by REORDERED_WITHIN: what the base followed from, or an earlier break, is passed by.
    The chain ends before a break later than `sure_until`: what it lacks may have been done in another order and not be read yet.
    """
    walk = _Walk(base, told)
    breaks: list[Break] = []
    current, followed = base, 0
    while (earliest := walk.earliest()) is not None:
        following = walk.found_left_by(current, earliest)
        if following is None and (earliest.at, earliest.after) <= (base.at, base.after):
            walk.take(earliest)
            continue
        if following is None and earliest.at > sure_until:
            break
        if following is None:
            following = walk.first_of_next(earliest)
            breaks.append(Break(current, following))
        walk.take(following)
        current, followed = following, followed + 1
    return Chain(current, tuple(breaks), followed)


class _Walk:
    """What is not in the chain yet."""

    def __init__(self, base: ToldBalance, told: Sequence[ToldBalance]) -> None:
        credible = (one for one in told if one.is_credible)
        self._order = deque(sorted(credible, key=lambda one: (one.at, one.after, one.receipt)))
        self._left = {one.receipt for one in self._order} - {base.receipt}
        self._by_before: defaultdict[Money, deque[ToldBalance]] = defaultdict(deque)
        for one in self._order:
            self._by_before[one.before].append(one)
        self._pass_by_predecessors(base)

    def earliest(self) -> ToldBalance | None:
        while self._order and self._order[0].receipt not in self._left:
            self._order.popleft()
        return self._order[0] if self._order else None

    def take(self, one: ToldBalance) -> None:
        self._left.discard(one.receipt)

    def found_left_by(self, current: ToldBalance, earliest: ToldBalance) -> ToldBalance | None:
        """The payment that found the balance which `current` left: not one of much later that found the same by chance."""
        found = self._by_before[current.after]
        while found and found[0].receipt not in self._left:
            found.popleft()
        return found[0] if found and found[0].at <= earliest.at + REORDERED_WITHIN else None

    def first_of_next(self, earliest: ToldBalance) -> ToldBalance:
        """Where the chain goes on behind a break: with a payment of that moment that follows from none of that moment."""
        moment: list[ToldBalance] = []
        for one in self._order:
            if one.at > earliest.at + REORDERED_WITHIN or len(moment) == _MOST_OF_A_MOMENT:
                break
            if one.receipt in self._left:
                moment.append(one)
        left = {one.after for one in moment}
        return next((one for one in moment if one.before not in left), earliest)

    def _pass_by_predecessors(self, base: ToldBalance) -> None:
        by_after = {one.after: one for one in self._order if one.at <= base.at + REORDERED_WITHIN and one.receipt in self._left}
        current = base
        while (before := by_after.pop(current.before, None)) is not None:
            self._left.discard(before.receipt)
            current = before
