import pandas as pd
import pytest

from vault_core.reconciliation.frames import to_frame
from vault_core.reconciliation.report_columns import RECONCILIATION
from vault_core.reconciliation.three_way import OUTCOMES, Legs, judge, mark_explained


def legs(**said) -> Legs:
    agreed = {"ledger": 500_00, "rail": 500_00, "core_due": 500_00, "core": 500_00, "core_lines": 1, "in_suspense": False}
    return Legs(**agreed | said)


@pytest.mark.parametrize(
    ("said", "outcome", "difference"),
    [
        ({}, "matched", 0),
        ({"core": 600_00, "core_due": 600_00}, "matched", 0),  # principal above the payout: charges due at disbursement
        ({"ledger": None}, "missing_in_ledger", 500_00),
        ({"ledger": None, "rail": None, "core": 70_00}, "missing_in_ledger", 70_00),
        ({"rail": None}, "missing_on_rail", 500_00),
        ({"rail": 450_00}, "amount_differs_on_rail", 50_00),
        ({"core": 1_000_00, "core_lines": 2}, "duplicate_in_core", 500_00),
        ({"core_due": None, "core": None, "core_lines": 0, "in_suspense": True}, "in_suspense", 500_00),
        ({"core_due": None, "core": None, "core_lines": 0}, "not_posted_yet", 500_00),
        ({"core_due": None}, "not_booked_as_posted", 500_00),
        ({"core": None, "core_lines": 0}, "missing_in_core", 500_00),
        ({"core": 499_00}, "amount_differs_in_core", 1_00),
        ({"core_lines": 2, "core_lines_due": 2}, "matched", 0),  # shared between a loan and savings
        ({"core": 1_000_00, "core_lines": 3, "core_lines_due": 2}, "duplicate_in_core", 500_00),
        ({"core_due": None, "core": None, "core_lines": 0, "given_back": True}, "matched", 0),
        ({"core_due": None, "given_back": True}, "not_booked_as_posted", 500_00),  # given back, and Mifos X has it
        ({"core_due": None, "in_suspense": True}, "not_booked_as_posted", 500_00),  # assigned, posted, not booked yet
        ({"rail": None, "core_due": None, "core": None, "given_back": True}, "missing_on_rail", 500_00),
    ],
)
def test_each_break_has_its_name_and_its_money(said, outcome, difference) -> None:
    assert judge(legs(**said)) == (outcome, difference)
    assert outcome in OUTCOMES


def frame(outcome: str, *, case_open: bool, age_hours: int) -> pd.DataFrame:
    row = {column.name: None for column in RECONCILIATION} | {
        "partner": "alpha", "flow": "disbursement", "receipt": "R1", "outcome": outcome,
        "difference_cents": 1, "case_open": case_open, "age_hours": age_hours, "ledger_cents": 1,
    }  # fmt: skip
    return to_frame(pd.DataFrame([row]), RECONCILIATION)


@pytest.mark.parametrize(
    ("outcome", "case_open", "age_hours", "explained"),
    [
        ("matched", False, 0, True),
        ("missing_in_core", True, 50, True),
        ("missing_in_core", False, 0, False),
        ("not_posted_yet", False, 1, True),
        ("not_posted_yet", False, 2, False),
        ("missing_on_rail", False, 0, False),
    ],
)
def test_a_break_is_explained_by_a_case_or_its_youth_only(outcome, case_open, age_hours, explained) -> None:
    assert mark_explained(frame(outcome, case_open=case_open, age_hours=age_hours))["explained"].tolist() == [explained]


def test_missing_amounts_never_turn_the_others_into_floats() -> None:
    two = pd.concat([frame("matched", case_open=False, age_hours=0), frame("matched", case_open=False, age_hours=0)])
    assert str(two["core_cents"].dtype) == "int64[pyarrow]"
    assert str(two["ledger_cents"].dtype) == "int64[pyarrow]"
