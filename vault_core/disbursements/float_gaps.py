"""Whether the utility balances that M-Pesa tells agree with what we paid between them: rules on values alone.

Results come in any order, M-Pesa may set a payout's money aside before it tells its end, and one it has done may be told late or
never. So a payout that was under way when a balance was told may or may not be in it, and only a difference beyond all of these
is certain. M-Pesa's charges stand on another account and lower nothing here.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from vault_core.money import ZERO, Money

# Balances that agree while payouts are under way are accounted for after this, so that work stays small in a long day.
AGREED_AFTER = timedelta(minutes=5)
# What is still open about older balances is left as it is: a person has the payouts that keep it open.
LOOKS_BACK = timedelta(days=2)
MOST_POINTS = 20_000
# What M-Pesa set aside for a payout that failed may come back a moment after we heard of the failure.
GIVEN_BACK_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Point:
    """A balance at `at` by M-Pesa's clock, told to us by `received_at` of ours."""

    at: datetime
    utility: Money
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Draw:
    """Money that M-Pesa paid at `at`, by its clock."""

    at: datetime
    amount: Money


@dataclass(frozen=True, slots=True)
class Instructed:
    """An instruction, or several alike: paid at `paid_at` by M-Pesa's clock, failed as we heard at `failed_at`, or still open.

    `vague`: it told no balance itself, so that its time, or its place among those of its second, is not certain.
    """

    amount: Money
    written_at: datetime
    paid_at: datetime | None = None
    failed_at: datetime | None = None
    vague: bool = False


@dataclass(frozen=True, slots=True)
class Movement:
    """What no payout of ours explains between two balances: above zero float that came, below zero money that went."""

    start: Point
    end: Point
    amount: Money
    drawn: Money  # what we paid between the two


@dataclass(frozen=True, slots=True)
class Accounting:
    """`settled`: up to here all is accounted for. `movements` after it may change as evidence comes."""

    settled: Point
    movements: tuple[Movement, ...]

    def is_settled(self, movement: Movement) -> bool:
        """Whether the movement stands."""
        return movement.end.at <= self.settled.at


class _Sums:
    """Sums of amounts by a key: of all keys up to one."""

    def __init__(self, pairs: Iterable[tuple[datetime, Money]]) -> None:
        ordered = sorted(pairs, key=lambda pair: pair[0])
        self._keys = [key for key, _ in ordered]
        self._sums = list(accumulate((amount.cents for _, amount in ordered), initial=0))

    def up_to(self, key: datetime) -> Money:
        return Money(self._sums[bisect_right(self._keys, key)])


class _UnderWay:
    """How much was under way when a balance was told, and so may be in it or not."""

    def __init__(self, instructions: Sequence[Instructed]) -> None:
        exact = [one for one in instructions if not one.vague]
        self._written = _Sums((one.written_at, one.amount) for one in exact)
        self._paid = _Sums((one.paid_at, one.amount) for one in exact if one.paid_at is not None)
        self._failed = _Sums((one.failed_at, one.amount) for one in exact if one.failed_at is not None)
        self._vague = sum((one.amount for one in instructions if one.vague), ZERO)

    def at(self, point: Point) -> Money:
        # Whatever was over by then had been written by then, too, so the one may be taken from the other.
        over = self._paid.up_to(point.at) + self._failed.up_to(point.received_at - GIVEN_BACK_WITHIN)
        return max(self._written.up_to(point.received_at) - over, ZERO) + self._vague


@dataclass(slots=True)
class _Walk:
    base: Point
    doubt: Money  # what may be in the base's balance already, though it is paid after it
    drawn: _Sums
    quiet: Point  # the last balance told while nothing was under way, or the first of all
    quiet_doubt: Money
    agreed: list[Point] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    noted: Money = ZERO  # of the movements since `quiet`
    fallen: tuple[Point, Money] | None = None  # where the balance was lowest beyond doubt since the base, and by how much
    undecided: bool = False

    def difference(self, start: Point, end: Point) -> Money:
        return end.utility - start.utility + self.drawn_between(start, end)

    def drawn_between(self, start: Point, end: Point) -> Money:
        return self.drawn.up_to(end.at) - self.drawn.up_to(start.at)

    def step(self, point: Point, under_way: Money) -> None:
        difference = self.difference(self.base, point)
        if not difference or not under_way or difference > self.doubt:
            self.move(point, difference, under_way)
            return
        self.undecided = True
        certain = difference + under_way
        if certain < (self.fallen[1] if self.fallen is not None else ZERO):
            self.fallen = (point, certain)

    def move(self, point: Point, difference: Money, under_way: Money) -> None:
        start = self.base
        if self.fallen is not None and difference > self.fallen[1]:  # it went, and then other money came
            low, fall = self.fallen
            self.note(start, low, fall)
            start, difference = low, difference - fall
        if not under_way and not self.quiet_doubt:
            self.note(start, point, self.difference(self.quiet, point) - self.noted)  # exact on both sides
        elif difference < ZERO or difference > self.doubt:
            self.note(start, point, difference - self.doubt if difference > ZERO else difference)
        self.base, self.doubt, self.fallen = point, under_way, None
        if not under_way:
            self.quiet, self.quiet_doubt, self.noted, self.undecided = point, ZERO, ZERO, False
        if not self.undecided:
            self.agreed.append(point)

    def note(self, start: Point, end: Point, amount: Money) -> None:
        if amount:
            self.movements.append(Movement(start, end, amount, self.drawn_between(start, end)))
            self.noted += amount


def account_for(base: Point, points: Sequence[Point], draws: Sequence[Draw], instructions: Sequence[Instructed]) -> Accounting:
    """What moved since `base` that our payouts do not explain, from the balances after it (one a second) and all that was paid.

    The same whatever the order of arrival was. A fall is noted only beyond what was under way when it was told, and is then the
    least that is certain; one told with nothing under way is exact. Draws as old as the base are in its balance.
    """
    ordered = sorted((point for point in points if point.at > base.at), key=lambda point: point.at)
    under_way = _UnderWay(instructions)
    doubt = under_way.at(base)
    walk = _Walk(base, doubt, _Sums((draw.at, draw.amount) for draw in draws if draw.at > base.at), base, doubt)
    for point in ordered:
        walk.step(point, under_way.at(point))
    if walk.fallen is not None:
        walk.note(walk.base, *walk.fallen)
    return Accounting(_settled(walk, ordered), tuple(walk.movements))


def _settled(walk: _Walk, ordered: Sequence[Point]) -> Point:
    if not ordered:
        return walk.quiet
    newest = ordered[-1].at
    sure = [point for point in walk.agreed if point.at <= newest - AGREED_AFTER]
    old = [point for point in ordered if point.at <= newest - LOOKS_BACK]
    many = [ordered[len(ordered) // 2]] if len(ordered) >= MOST_POINTS - 1 else []
    return max([walk.quiet, *sure, *old, *many], key=lambda point: point.at)
