from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.mifos import ApprovedLoan, LoanTransaction, MifosPerson, PlannedTranche
from vault_core.disbursements.loan_check import Changed, NotApproved, ToPay, Unchanged, check_client, check_loan
from vault_core.disbursements.tranches import NoPart, Part, WrongState, has_next, is_over, part_of
from vault_core.money import ZERO, Money

DAY, LATER = date(2026, 11, 24), date(2026, 12, 4)


def planned(number: int, shillings: int, on: date = DAY, *, out: bool = False) -> PlannedTranche:
    return PlannedTranche(number, on, Money.shillings(shillings), on if out else None)


def disbursal(number: int, shillings: int, *, dead: bool = False) -> LoanTransaction:
    return LoanTransaction(number, "disbursement", Money.shillings(shillings), DAY, None, None, dead)


PLAIN = ApprovedLoan(
    id=1, account_no="000000001", external_id=None, status_id=200, client_id=1, client_name="W", group=False, product_id=1,
    currency="KES", approved_principal=Money.shillings(10_000), net_disbursal=Money.shillings(9_700), multi_disburse=False,
    approved_on=DAY, transactions=[], total_outstanding=None,
)  # fmt: skip
IN_TWO = replace(
    PLAIN, multi_disburse=True, net_disbursal=PLAIN.approved_principal, tranches=(planned(4, 6_000), planned(3, 4_000, LATER))
)
AFTER_ONE = replace(
    IN_TWO, status_id=300, transactions=[disbursal(9, 6_000)], tranches=(planned(4, 6_000, out=True), planned(3, 4_000, LATER))
)


def test_a_plain_loan_is_one_part_that_pays_its_net_and_posts_its_principal() -> None:
    assert part_of(PLAIN, 1) == Part(1, 1, Money.shillings(10_000), Money.shillings(9_700))


def test_the_first_tranche_is_that_of_the_earliest_day() -> None:
    assert part_of(IN_TWO, 1) == Part(1, 2, Money.shillings(6_000), Money.shillings(6_000), DAY)


def test_the_second_tranche_comes_when_one_stands() -> None:
    assert part_of(AFTER_ONE, 2) == Part(2, 2, Money.shillings(4_000), Money.shillings(4_000), LATER)


@pytest.mark.parametrize(
    ("loan", "number"),
    [
        (replace(PLAIN, status_id=300), 1),
        (replace(PLAIN, status_id=500), 1),
        (replace(PLAIN, net_disbursal=Money.shillings(10_001)), 1),  # more than the principal is never paid
        (replace(IN_TWO, net_disbursal=Money.shillings(10_001)), 1),
        (IN_TWO, 2),  # the first is not disbursed
        (replace(AFTER_ONE, status_id=600), 2),
        (AFTER_ONE, 1),
        (AFTER_ONE, 3),
        (replace(AFTER_ONE, transactions=[disbursal(9, 6_000), disbursal(10, 100)]), 2),  # one too many by hand
        (replace(AFTER_ONE, transactions=[disbursal(9, 6_000, dead=True)]), 2),  # undone
    ],
)
def test_a_loan_that_stands_elsewhere_is_never_paid(loan: ApprovedLoan, number: int) -> None:
    assert isinstance(part_of(loan, number), WrongState)


@pytest.mark.parametrize(
    "loan",
    [
        replace(IN_TWO, tranches=()),
        replace(IN_TWO, net_disbursal=Money.shillings(9_700)),
        replace(IN_TWO, tranches=(planned(1, 6_000), planned(2, 4_001))),
    ],
)
def test_a_plan_that_does_not_tell_what_to_pay_has_no_part(loan: ApprovedLoan) -> None:
    found = part_of(loan, 1)
    assert isinstance(found, NoPart)
    assert "by hand" in found.reason or "correct the plan" in found.reason


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=6))
def test_the_parts_of_a_loan_are_its_tranches_one_after_the_other_and_sum_to_what_was_approved(amounts: list[int]) -> None:
    total = sum((Money.shillings(amount) for amount in amounts), ZERO)
    loan = replace(IN_TWO, approved_principal=total, net_disbursal=total)
    paid = []
    for number in range(1, len(amounts) + 1):
        tranches = tuple(planned(place, amount, out=place < number) for place, amount in enumerate(amounts, 1))
        done = [disbursal(place, amount) for place, amount in enumerate(amounts[: number - 1], 1)]
        loan = replace(loan, status_id=200 if number == 1 else 300, tranches=tranches, transactions=done)
        assert not is_over(loan)
        part = part_of(loan, number)
        assert isinstance(part, Part)
        paid.append(part.principal)
        assert not isinstance(part_of(loan, number + 1), Part)
    assert sum(paid, ZERO) == total


def test_a_fully_disbursed_or_closed_loan_needs_no_further_look() -> None:
    everything = (planned(4, 6_000, out=True), planned(3, 4_000, out=True))
    assert is_over(replace(AFTER_ONE, tranches=everything))
    assert is_over(replace(AFTER_ONE, status_id=600))
    assert not is_over(AFTER_ONE)


def test_only_an_active_loan_with_an_undisbursed_tranche_has_a_next_one() -> None:
    assert has_next(AFTER_ONE)
    assert not has_next(IN_TWO)
    assert not has_next(replace(AFTER_ONE, tranches=AFTER_ONE.tranches[:1]))


TO_PAY = ToPay(1, Money.shillings(6_000), Money.shillings(6_000), DAY, "254712345678")


@pytest.mark.parametrize(
    ("loan", "kind"),
    [
        (IN_TWO, Unchanged),
        (AFTER_ONE, NotApproved),
        (replace(IN_TWO, approved_on=LATER), Changed),
        (replace(IN_TWO, tranches=(planned(4, 5_999), planned(3, 4_001, LATER))), Changed),
        (replace(IN_TWO, tranches=(planned(4, 6_000, LATER), planned(3, 4_000, date(2027, 1, 1)))), Changed),  # put off
    ],
)
def test_right_before_it_is_paid_a_tranche_must_still_be_what_was_planned(loan: ApprovedLoan, kind: type) -> None:
    assert isinstance(check_loan(loan, TO_PAY, today=DAY), kind)


@pytest.mark.parametrize(
    ("number", "kind"), [("0712 345 678", Unchanged), ("0712345679", Changed), (None, Changed), ("x", Changed)]
)
def test_a_number_that_is_another_by_now_is_not_paid(number: str | None, kind: type) -> None:
    assert isinstance(check_client(MifosPerson(1, "Wanjiku", number), TO_PAY), kind)


def test_a_client_who_is_not_active_is_not_paid() -> None:
    assert isinstance(check_client(MifosPerson(1, "Wanjiku", "0712 345 678", active=False), TO_PAY), Changed)


TOP_UP = replace(PLAIN, top_up=True, older_loan_id=7, payoff=Money.shillings(6_000), fees_at_disbursement=Money.shillings(300))


@pytest.mark.parametrize("told", [9_700, 3_800, 3_600])  # of a newer server; of an older one; of that before a repayment
def test_a_top_up_pays_the_principal_less_charges_and_what_the_older_loan_owes_whatever_net_was_told(told: int) -> None:
    part = part_of(replace(TOP_UP, net_disbursal=Money.shillings(told)), 1)
    payoff = Money.shillings(6_000)
    assert part == Part(1, 1, Money.shillings(10_000), Money.shillings(3_700), older_loan_id=7, payoff=payoff)


@pytest.mark.parametrize(
    "changes",
    [
        {"payoff": None},  # not read: lists do not tell it
        {"older_loan_id": None},
        {"payoff": ZERO},  # Mifos X refuses to disburse it
        {"payoff": Money.shillings(9_700)},
        {"payoff": Money.shillings(20_000)},
        {"multi_disburse": True},
    ],
)
def test_a_top_up_of_which_it_is_not_known_what_is_left_is_for_a_person(changes: dict[str, object]) -> None:
    found = part_of(replace(TOP_UP, **changes), 1)
    assert isinstance(found, NoPart)
    assert found.top_up is True


def test_a_top_up_whose_older_loan_owes_another_amount_by_now_is_examined_anew() -> None:
    to_pay = ToPay(1, TOP_UP.approved_principal, Money.shillings(3_700), TOP_UP.approved_on, "254712345678")
    assert isinstance(check_loan(TOP_UP, to_pay, today=DAY), Unchanged)
    assert isinstance(check_loan(replace(TOP_UP, payoff=Money.shillings(5_999)), to_pay, today=DAY), Changed)


def test_a_charge_that_was_added_after_the_approval_is_not_paid_out() -> None:
    # Seen on a running server: the net of before stays until the disbursal.
    part = part_of(replace(PLAIN, net_disbursal=PLAIN.approved_principal, fees_at_disbursement=Money.shillings(50)), 1)
    assert isinstance(part, Part)
    assert part.payout == Money.shillings(9_950)
    assert isinstance(part_of(replace(IN_TWO, fees_at_disbursement=Money.shillings(50)), 1), NoPart)


def test_a_loan_whose_fixed_first_repayment_has_passed_meanwhile_is_examined_anew() -> None:
    to_pay = ToPay(1, PLAIN.approved_principal, PLAIN.net_disbursal, PLAIN.approved_on, "254712345678")
    assert isinstance(check_loan(replace(PLAIN, first_repayment_on=DAY), to_pay, today=DAY), Unchanged)
    assert isinstance(check_loan(replace(PLAIN, first_repayment_on=DAY), to_pay, today=LATER), Changed)
