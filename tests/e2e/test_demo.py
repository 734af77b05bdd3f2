"""The demo as its user runs it: a whole day over the real parts, faults included, ending in a proof that holds."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_stack.demo.day_plan import DayPlan, plan_day
from local_stack.demo.small_lenders import plan_small_lenders
from local_stack.demo.world import planned_faults
from local_stack.home import REPOSITORY, Home, remove
from tests.private_stack import prepare_with_shared_jars

SEED = 11

# What the day holds beside payments. By rule or by people once each; by the draw of faults, or by how fast the machine is, at least.
TIMES = {
    "case_float_gap": 1,
    "case_partner_halted": 1,
    "case_contradicting_result": 1,
    "case_result_without_payout": 1,
    "case_paid_amount_differs": 1,
    "case_result_not_understood": 1,
    "case_tariff_difference": 1,
    "case_disbursal_undone": 1,
    "payouts_halted": 1,
    "payouts_go_on": 1,
    "partner_resumed": 1,
    "wallet_adjustment_approved": 1,
    "disbursement_held": 1,
    "disbursement_released": 2,
    "disbursement_retried": 1,
    "disbursement_cancelled": 1,
    "disbursement_resolved": 2,
    "case_closed": 2,
    "posted_without_keys": 3,
    "later_tranches": 1,
    "for_working_day": 4,
    "case_posted_payment_undone": 1,
    "collection_assign_approved": 1,
    "collection_reverse_approved": 3,
    "references_remembered": 1,
    "payments_given_back": 3,
    "payments_pulled": 1,
    "paid_at_counter": 2,
    "prompts_paid": 3,
    "prompts_declined": 2,
    "prompts_expired": 1,
}
# Each of these ways of a payout or a customer's payment: somebody follows one of it to its end.
ONCE = [
    "payee_blocked",
    "payee_freed",
    "difference_made_good",
    "bare_result",
    "forgotten",
    "checked",
    "told_hashed",
    "told_in_clear",
    "told_in_numbers",
    "found_by_prefix",
    "found_by_client_number",
    "found_by_phone",
    "ambiguous",
    "to_closed",
    "to_overpaid",
    "to_unpaid_loan",
    "to_other_currency",
    "too_much_shared",
    "too_much_posted",
    "too_much_held",
    "refused_phone",
    "refused_account",
    "refused_amount",
    "refused_customer",
    "refused_short_code",
    "refused_unknown",
    "taken_unknown",
    "asked_by_command",
    "asked_by_api",
    "paid_without_callback",
    "paid_in_spite_of_answer",
    "declined_without_callback",
    "moved",
    "taken_out",
    "undone_by_officer",
    "rejected",
    "given_back",
    "given_back_unheard",
    "given_back_late",
    "cash_repaid",
    "cash_deposited",
    "cash_taken_back",
    "gap_pulled",
    "imported",
]
TIMES |= dict.fromkeys(ONCE, 1)
AT_LEAST = {
    "case_float_short": 1,
    "case_disbursement_unposted": 1,
    "case_payout_unresolved": 1,
    "case_payout_failed": 1,
    "case_sms_unknown": 1,
    "case_balance_gap": 1,
    "case_unmatched_payment": 18,
    "receipts_texted": 300,
    "found_by_question": 2,
    "known_to_nobody": 2,
    "paid_after_a_failure": 4,
    "paid_net": 2,
    "slowed_lenders": 1,
}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    place = Home(Path(tempfile.mkdtemp(prefix="pvd")) / "home")
    prepare_with_shared_jars(place)
    yield place.path
    remove(place)


@pytest.fixture(scope="module")
def finished(home: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    report = home.parent / "out.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
    done = subprocess.run(
        [str(REPOSITORY / "vault"), "demo", "--exit", "--seed", str(SEED), "--json", str(report)],
        check=False, capture_output=True, text=True, cwd="/", timeout=800, env=environment | {"VAULT_HOME": str(home)},
    )  # fmt: skip
    return done, json.loads(report.read_text()) if report.exists() else {}


@pytest.mark.timeout(900)
def test_the_day_ends_with_every_shilling_where_it_should_be(finished) -> None:
    done, report = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["ok"] is True
    assert report["seed"] == SEED
    assert "Every shilling is where it should be." in done.stdout


def test_every_difference_is_the_money_that_open_cases_name(finished) -> None:
    _, report = finished
    differing = [line for line in report["proof"] if line["difference_cents"]]
    named = {"sms_unknown", "tariff_difference"}
    unknown = sum(case["amount_cents"] for case in report["open_cases"] if case["kind"] in named)
    assert len(report["proof"]) == 29
    assert report["findings"] == []
    assert {line["line"].split(",")[0] for line in differing} <= {
        "SMS",
        "left in the wallet",
        "M-Pesa fees that the wallet bears",
    }
    for ours in (True, False):  # the house's income, and the wallets that it comes from
        assert sum(line["difference_cents"] for line in differing if (line["partner"] == "house") is ours) == unknown
    for line in report["proof"]:
        assert set(line) == {"partner", "line", "truth_cents", "ledger_cents", "report_cents", "difference_cents"}


def test_the_day_is_as_large_as_it_says_and_ends_at_rest(finished) -> None:
    _, report = finished
    counts = report["counts"]
    assert counts["loans_disbursed"] >= 200
    assert counts["payments"] == counts["payments_posted"] + counts["payments_suspense"] + counts["payments_reversed"] == 348
    assert counts["loans_posting"] == report["story"]["for_working_day"]
    assert set(counts) & {"loans_ready", "loans_sending", "loans_unknown", "messages_queued"} == set()


def test_everything_that_people_and_rules_have_to_see_to_happened(finished) -> None:
    story = finished[1]["story"]
    assert set(story) == set(TIMES) | set(AT_LEAST)
    assert {name: story[name] for name in TIMES} == TIMES
    assert {name: times for name, times in story.items() if name in AT_LEAST and times < AT_LEAST[name]} == {}


def test_every_fault_was_met(finished) -> None:
    _, report = finished
    seed = report["seed"]
    planned = DayPlan(seed, (*plan_day(seed).partners, *plan_small_lenders(seed)))
    assert set(planned_faults(planned)) <= set(report["faults"])
    assert set(report) == {"seed", "day", "ok", "proof", "findings", "story", "counts", "faults", "open_cases", "seconds"}


@pytest.mark.usefixtures("finished")
def test_nothing_is_left_running(home) -> None:
    left = subprocess.run(["pgrep", "-f", f"{home}/"], check=False, capture_output=True, text=True)
    assert left.stdout == ""
