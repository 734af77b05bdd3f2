"""The demo as its user runs it: a whole day over the real parts, faults included, ending in a proof that holds."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_stack.demo.world import FAULTS
from local_stack.home import REPOSITORY, Home, remove
from tests.private_stack import prepare_with_shared_jars

SEED = 11


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
    unknown = sum(case["amount_cents"] for case in report["open_cases"] if case["kind"] == "sms_unknown")
    assert len(report["proof"]) == 14
    assert report["findings"] == []
    assert {line["line"].split(",")[0] for line in differing} <= {"SMS", "left in the wallet"}
    for ours in (True, False):  # the house's income, and the wallets that it comes from
        assert sum(line["difference_cents"] for line in differing if (line["partner"] == "house") is ours) == unknown
    for line in report["proof"]:
        assert set(line) == {"partner", "line", "truth_cents", "ledger_cents", "report_cents", "difference_cents"}


def test_the_day_is_as_large_as_it_says_and_ends_at_rest(finished) -> None:
    _, report = finished
    counts = report["counts"]
    assert counts["loans_disbursed"] >= 200
    assert counts["payments"] == 310
    assert counts["payments_posted"] + counts["payments_suspense"] == 310
    assert set(counts) & {"loans_ready", "loans_sending", "loans_unknown", "loans_posting", "messages_queued"} == set()


def test_every_fault_was_met(finished) -> None:
    _, report = finished
    assert set(FAULTS) <= set(report["faults"])
    assert set(report) == {"seed", "day", "ok", "proof", "findings", "counts", "faults", "open_cases", "seconds"}


@pytest.mark.usefixtures("finished")
def test_nothing_is_left_running(home) -> None:
    left = subprocess.run(["pgrep", "-f", f"{home}/"], check=False, capture_output=True, text=True)
    assert left.stdout == ""
