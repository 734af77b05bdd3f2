"""Balances as M-Pesa tells them: every sample, and every disorder of its text."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.clients.daraja_balances import AccountBalances, read_balances
from vault_core.clients.daraja_messages import parse_result
from vault_core.money import Money

SAMPLES = Path(__file__).parents[2] / "data" / "daraja"


def sample(name: str) -> AccountBalances | None:
    return read_balances(parse_result((SAMPLES / f"{name}.json").read_bytes()))


def told(accounts: Any, moment: Any = "20261124125710", code: Any = 0) -> AccountBalances | None:
    rows = [{"Key": "AccountBalance", "Value": accounts}, {"Key": "BOCompletedTime", "Value": moment}]
    body = {"Result": {"ResultCode": code, "ResultDesc": "", "ResultParameters": {"ResultParameter": rows}}}
    return read_balances(parse_result(json.dumps(body).encode()))


def test_the_documented_answer_gives_what_is_available_in_each_account() -> None:
    at = datetime(2020, 1, 9, 9, 57, 10, tzinfo=UTC)
    assert sample("balance_result_docs_strings") == AccountBalances(
        at, Money.shillings(228_037), Money.shillings(700_000), Money.shillings(-1_540)
    )


def test_a_number_for_the_time_and_one_account_only_are_read() -> None:
    balances = sample("balance_result_int_time_one_account")
    assert balances == AccountBalances(datetime(2020, 9, 27, 20, 41, 23, tzinfo=UTC), None, Money.shillings(481_000), None)


def test_a_failed_answer_has_no_balances_although_it_has_parameters() -> None:
    assert sample("balance_result_fail_8006_with_parameters") is None


@pytest.mark.parametrize(
    "accounts",
    [
        "Utility Account|KES|99.00|50.00|49.00|0.00",
        " utility  account | KES | 99.00 | 50.00 |49.00|0.00",
        "Utility Account|KES|99.00|50.00",
        "Some Account|KES|1.00|1.00|0.00|0.00&Utility Account|KES|99.00|50.00|49.00|0.00&",
        "Utility Account|USD|9.00|9.00|0|0&Utility Account|KES|99.00|50.00|49.00|0.00",
        "Utility Account|KES|99|50|49|0",
        "Utility Account|KES|1,099.00|50.00|49.00|0.00",
    ],
)
def test_it_is_the_available_and_not_the_current_balance_whatever_stands_around_it(accounts: str) -> None:
    balances = told(accounts)
    assert balances is not None
    assert balances.utility == Money.shillings(50)


@pytest.mark.parametrize(
    "accounts", ["Utility Account|KES|99.00", "Utility Account|KES|1|many|0|0", "Utility|KES|1|1|0|0", "&|&"]
)
def test_what_cannot_be_read_is_no_balance(accounts: str) -> None:
    balances = told(accounts)
    assert balances is not None
    assert balances.utility is None


@pytest.mark.parametrize(
    ("accounts", "moment", "code"),
    [
        ("Utility Account|KES|9|9|0|0", "yesterday", 0),
        ("Utility Account|KES|9|9|0|0", None, 0),
        (None, "20261124125710", 0),
        ("Utility Account|KES|9|9|0|0", "20261124125710", 17),
    ],
)
def test_without_a_time_or_after_a_failure_there_are_no_balances(accounts, moment, code) -> None:
    assert told(accounts, moment, code) is None


PRINTED = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=16)  # else it is no body


@given(st.text(alphabet="Utility Accon|KES&0123456789.-,", max_size=80), st.one_of(PRINTED, st.integers()))
def test_no_text_makes_the_reader_fail(accounts: str, moment: Any) -> None:
    told(accounts, moment)
