import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vault_core.collections.balance_chain import ToldBalance, follow
from vault_core.money import Money

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def told(*steps, start=100_000):
    """Payments in the order M-Pesa did them: (second, amount), or (second, -withdrawal) and (second, 'lost', amount), not told."""
    balance, found = start, [ToldBalance("BASE", NOON, Money(1_000), Money(start))]
    for number, (second, *what) in enumerate(steps):
        balance += what[-1]
        if what[-1] > 0 and what[0] != "lost":
            at = NOON + timedelta(seconds=second)
            found.append(ToldBalance(f"R{number}", at, Money(what[-1]), Money(balance)))
    return found


def walk(base, told_since, sure_until=NOON + timedelta(days=1)):
    return follow(base, told_since, sure_until)


def breaks(found):
    return [one.amount.cents for one in walk(found[0], found).breaks]


def test_balances_that_follow_from_one_another_do_not_break():
    assert breaks(told((1, 500), (2, 700), (2, 500), (2, 500), (3, 900))) == []


def test_payments_of_a_moment_may_be_told_in_any_order_and_done_in_another():
    found = told((5, 500), (4, 700), (6, 500), (3, 500), (4, 900))
    chain = walk(found[0], found[::-1])
    assert chain.breaks == ()
    assert chain.end.receipt == "R4"


def test_a_payment_nobody_told_of_is_a_break_of_its_amount_between_its_neighbours():
    found = told((1, 500), (2, "lost", 333), (3, 700))
    [gap] = walk(found[0], found).breaks
    assert (gap.start.receipt, gap.end.receipt, gap.amount) == ("R0", "R2", Money(333))


def test_money_that_went_is_a_break_below_zero():
    assert breaks(told((1, 500), (60, -90_000), (90, 700), (91, 500))) == [-90_000]


def test_several_breaks_stand_apart():
    assert breaks(told((1, 500), (2, "lost", 333), (3, 700), (100, -5_000), (200, 100), (300, "lost", 444), (301, 100))) == [
        333,
        -5_000,
        444,
    ]


def test_a_balance_that_comes_again_by_chance_much_later_is_no_next_one():
    # 500 came, all of it went; hours later a payment finds the balance that the base left.
    found = told((10, 500), (20, -300), (30, 400), (7200, -600), (7260, 900))
    assert breaks(found) == [-300, -600]


def test_the_next_part_goes_on_where_the_last_one_ended():
    found = told((1, 500), (40, 700), (41, "lost", 333), (42, 700), (80, 900))
    first = walk(found[0], found[:3])
    assert first.end.receipt == "R1"
    rest = walk(first.end, [one for one in found if one.at >= first.end.at - timedelta(seconds=30)])
    assert [gap.amount for gap in rest.breaks] == [Money(333)]
    assert rest.end.receipt == "R4"


def test_a_break_near_the_end_of_what_was_read_is_left_until_it_is_certain():
    found = told((1, 500), (50, 700), (51, "lost", 333), (52, 700))
    assert walk(found[0], found, NOON + timedelta(seconds=51)) == walk(found[0], found[:3])
    assert [gap.amount for gap in walk(found[0], found, NOON + timedelta(seconds=52)).breaks] == [Money(333)]


def test_an_old_break_is_not_found_again_from_behind_it():
    found = told((1, 500), (2, "lost", 333), (3, 700), (4, 700))
    end = walk(found[0], found).end
    assert walk(end, found).breaks == ()
    assert walk(end, found).end == end


def test_a_balance_that_cannot_be_is_passed_by():
    found = told((1, 500), (3, 700))
    found.insert(2, replace(found[1], receipt="ODD", after=Money(1), at=NOON + timedelta(seconds=2)))
    assert breaks(found) == []


def test_balances_that_have_nothing_to_do_with_the_payments_are_told_from_gaps_and_cost_no_time():
    odd = [ToldBalance(f"R{n}", NOON + timedelta(seconds=n // 500), Money(150_00), Money(9_150_00)) for n in range(5_000)]
    begun = time.process_time()
    assert walk(odd[0], odd).is_unrelated
    assert time.process_time() - begun < 5
    gap = told((1, 500), (2, "lost", 333), (3, 700))
    assert not walk(gap[0], gap).is_unrelated


payments = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10_000)), min_size=1, max_size=25)


@given(payments, st.data())
def test_whatever_the_order_of_arrival_a_whole_record_has_no_break_and_each_lost_payment_alone_has_one(steps, data):
    seconds, timed = 0, []
    for gap, amount in steps:
        seconds += gap
        timed.append((seconds, amount))
    found = told(*timed)
    shuffled = data.draw(st.permutations(found))
    assert walk(found[0], shuffled).breaks == ()
    lost = data.draw(st.integers(1, len(found) - 1))
    left = [one for one in shuffled if one.receipt != found[lost].receipt]
    gaps = [gap.amount for gap in walk(found[0], left).breaks]
    assert gaps == ([found[lost].amount] if lost < len(found) - 1 else [])
