from datetime import date

import pytest

from vault_core.clients.mifos_values import AccountState, ApprovedLoan, FoundAccount
from vault_core.collections.overpayment import Fits, Held, Overpayment, Shared, judge_overpayment
from vault_core.money import ZERO, Money


def loan(status: int = 300, owed: int | None = 1_000_00) -> ApprovedLoan:
    return ApprovedLoan(
        id=1, account_no="000000001", external_id=None, status_id=status, client_id=1, client_name=None, group=False, product_id=1,
        currency="KES", approved_principal=Money(1), net_disbursal=Money(1), multi_disburse=False, approved_on=date(2026, 11, 1),
        transactions=[], total_outstanding=None if owed is None else Money(owed),
    )  # fmt: skip


def savings(account_id: int = 7, state: AccountState = AccountState.ACTIVE, currency: str = "KES") -> FoundAccount:
    return FoundAccount("savings", account_id, f"{account_id:09d}", None, 1, None, state, currency)


@pytest.mark.parametrize("policy", list(Overpayment))
@pytest.mark.parametrize("cents", [1, 999_99, 1_000_00])
def test_what_is_owed_or_less_fits_under_every_policy(policy, cents) -> None:
    assert judge_overpayment(Money(cents), loan(), policy, [savings()]) == Fits()


def test_a_cent_too_much_goes_as_the_policy_says() -> None:
    too_much = Money(1_000_01)
    assert judge_overpayment(too_much, loan(), Overpayment.POST_ALL, []) == Fits()
    assert isinstance(judge_overpayment(too_much, loan(), Overpayment.HOLD, [savings()]), Held)
    assert judge_overpayment(too_much, loan(), Overpayment.TO_SAVINGS, [savings()]) == Shared(
        Money(1_000_00), Money(1), savings()
    )


@pytest.mark.parametrize(("status", "owed"), [(600, 0), (700, 0), (600, None)])
def test_a_loan_that_is_paid_off_is_owed_nothing(status, owed) -> None:
    assert judge_overpayment(Money(5), loan(status, owed), Overpayment.TO_SAVINGS, [savings()]) == Shared(
        ZERO, Money(5), savings()
    )


@pytest.mark.parametrize("status", [100, 200, 303, 500, 601, 602])
def test_a_loan_that_takes_no_repayment_is_left_to_mifos_x_to_refuse(status) -> None:
    assert judge_overpayment(Money(5_000_00), loan(status), Overpayment.HOLD, []) == Fits()


@pytest.mark.parametrize(
    "accounts",
    [[], [savings(7), savings(8)], [savings(state=AccountState.CLOSED)], [savings(state=AccountState.BLOCKED)], [savings(currency="USD")]],
)  # fmt: skip
def test_without_exactly_one_open_savings_account_in_shillings_the_rest_is_held(accounts) -> None:
    assert isinstance(judge_overpayment(Money(1_000_01), loan(), Overpayment.TO_SAVINGS, accounts), Held)
