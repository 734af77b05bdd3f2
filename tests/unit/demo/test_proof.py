from dataclasses import replace
from uuid import uuid4

import pandas as pd
import pytest

from local_stack.demo.day_plan import PlannedCollectionCharges
from local_stack.demo.proof import (
    COLLECTED,
    DISBURSED,
    HOUSE,
    LENT,
    LINES,
    MPESA_FEES,
    PAID,
    REPAID,
    SMS,
    SUSPENSE,
    SYSTEM_FEES,
    TOPPED_UP,
    WALLET,
    PartnerTerms,
    ProofLine,
    house_lines,
    ledger_lines,
    partner_lines,
    prove,
    report_lines,
    truth_of,
)  # fmt: skip
from vault_core.ledger.balances import TrialLine
from vault_core.ledger.chart import AccountRef

TERMS = PartnerTerms("alpha", "a", "600100", "700100", "alpha", 80, 25_50)


def transaction(kind: str, cents: int, *, reverse: bool = False) -> dict:
    return {"kind": kind, "amount_cents": cents, "reversed": reverse, "receipt": "UKO1234567"}


def truth(*, old: bool = False) -> dict:
    before = [transaction("disbursement", 9_000_00)]
    today = [] if old else [
        transaction("disbursement", 5_000_00), transaction("disbursement", 5_000_00, reverse=True), transaction("repayment", 100_00),
    ]  # fmt: skip
    return {
        "mpesa": {
            "short_codes": {
                "600100": {"b2c": [{"amount_cents": 4_850_00, "fee_cents": 9_00}]},
                "700100": {"c2b": [{"amount_cents": 100_00}, {"amount_cents": 30_00}]},
            }
        },
        "mifos": {"a": {"loans": {"1": {"transactions": before + today}}, "savings": {}}},
        "sms": {"users": {"alpha": {"messages": [{"parts": 2}, {"parts": 1}]}}},
    }


def test_the_truth_is_read_from_the_books_without_reversals_and_without_what_was_there_before() -> None:
    assert truth_of(TERMS, truth(), truth(old=True)) == {
        PAID: 4_850_00, COLLECTED: 130_00, DISBURSED: 5_000_00, REPAID: 100_00, SUSPENSE: 30_00,
        MPESA_FEES: 9_00, SYSTEM_FEES: 25_50 + 3_83, SMS: 240,
    }  # fmt: skip


def test_what_a_wallet_bears_of_payments_in_is_counted_where_the_plan_says_so() -> None:
    told = truth()
    told["mpesa"]["short_codes"]["700100"]["c2b"] = [
        {"amount_cents": 100_00, "fee_cents": 0},
        {"amount_cents": 1_250_00, "fee_cents": 5_00},
        {"amount_cents": 9_000_00, "fee_cents": 30_00},
    ]
    charged = replace(TERMS, collections=PlannedCollectionCharges(50, 4, 10, "mgao"))
    lines = truth_of(charged, told, truth(old=True))
    assert lines[MPESA_FEES] == 9_00 + 5_00 + 30_00
    assert lines[SYSTEM_FEES] == 25_50 + 3_83 + 4_60 + (6_25 + 94) + 11_50
    assert truth_of(TERMS, told, truth(old=True))[MPESA_FEES] == 9_00


def test_equal_books_hold_and_every_line_is_drawn() -> None:
    books = truth_of(TERMS, truth(), truth(old=True))
    lines = prove("alpha", books, books, books, {})
    assert [line.line for line in lines] == list(LINES)
    assert all(line.holds and line.difference_cents == 0 for line in lines)


@pytest.mark.parametrize("wrong", ["truth_cents", "ledger_cents", "report_cents"])
def test_one_cent_in_any_of_the_three_breaks_the_proof(wrong) -> None:
    figures = {"truth_cents": 100, "ledger_cents": 100, "report_cents": 100, wrong: 101}
    line = ProofLine("alpha", PAID, **figures, case_cents=0)
    assert line.difference_cents == 1
    assert not line.holds


def test_a_difference_holds_only_if_open_cases_name_exactly_that_money() -> None:
    assert ProofLine("alpha", SMS, 240, 160, 160, case_cents=80).holds
    assert not ProofLine("alpha", SMS, 240, 160, 160, case_cents=79).holds
    assert not ProofLine("alpha", SMS, 240, 160, 160, case_cents=160).holds


def test_a_partner_missing_from_the_ledger_counts_as_zero_there() -> None:
    books = truth_of(TERMS, truth(), truth(old=True))
    assert not all(line.holds for line in prove("alpha", books, {}, books, {}))


def test_the_reports_are_read_for_one_partner_only() -> None:
    reconciliation = pd.DataFrame(
        {
            "partner": ["alpha", "alpha", "beta"], "flow": ["disbursement", "collection", "collection"],
            "rail_cents": [510, 40, 7], "made_good_cents": [10, None, None], "core_cents": [520, 0, 7], "outcome": ["matched", "in_suspense", "matched"],
            "difference_cents": [0, 40, 0],
        }
    )  # fmt: skip
    charges = pd.DataFrame({"partner": ["alpha", "alpha"], "line": ["mpesa_fee", "excise"], "amount_cents": [5, 2]})
    sms = pd.DataFrame({"partner": ["alpha"], "charged_cents": [80]})
    assert report_lines(reconciliation, charges, sms, "alpha") == {
        PAID: 500, COLLECTED: 40, DISBURSED: 520, REPAID: 0, SUSPENSE: 40, MPESA_FEES: 5, SYSTEM_FEES: 2, SMS: 80,
    }  # fmt: skip


def test_a_trial_balance_and_the_day_it_tells_of_give_the_same_lines() -> None:
    alpha = uuid4()
    day = truth_of(TERMS, truth(), truth(old=True))
    charges = day[MPESA_FEES] + day[SYSTEM_FEES] + day[SMS]
    trial = [
        TrialLine.of(AccountRef(owner, code), cents)
        for owner, code, cents in (
            (None, "bank:settlement", 900_00), (alpha, "wallet", charges - 900_00), (alpha, "b2c_float", -4_850_00), (alpha, "c2b_float", 130_00),
            (alpha, "loan_book", 4_900_00), (alpha, "suspense", -20_00), (alpha, "collected_unposted", -10_00), (None, "fees:mpesa", -9_00),
            (None, "fees:system", -25_50), (None, "tax:excise", -3_83), (None, "fees:sms", -240),
        )
    ]  # fmt: skip
    ledger = ledger_lines(trial, {alpha: "alpha"})
    assert ledger["alpha"] == partner_lines(day, 900_00)
    assert ledger[HOUSE] == house_lines([day], 900_00)
    assert set(ledger["alpha"]) == {PAID, COLLECTED, LENT, SUSPENSE, WALLET}
    assert set(ledger[HOUSE]) == {TOPPED_UP, MPESA_FEES, SYSTEM_FEES, SMS}


def test_a_partner_without_accounts_has_lines_of_nothing() -> None:
    assert set(ledger_lines([], {uuid4(): "alpha"})["alpha"].values()) == {0}


def test_what_m_pesa_gave_back_is_not_collected_in_the_truth_nor_in_the_reports() -> None:
    books = truth()
    books["mpesa"]["short_codes"]["700100"]["reversals"] = [
        {"amount_cents": 30_00, "result_code": "0"}, {"amount_cents": 30_00, "result_code": "1"},
    ]  # fmt: skip
    told = truth_of(TERMS, books, truth(old=True))
    assert (told[COLLECTED], told[SUSPENSE]) == (100_00, 0)


def test_cash_at_the_counter_is_no_money_of_m_pesas() -> None:
    books = truth()
    cash = transaction("repayment", 50_00) | {"receipt": None}
    books["mifos"]["a"]["loans"]["1"]["transactions"].append(cash)
    assert truth_of(TERMS, books, truth(old=True))[REPAID] == 100_00
