"""Fault points: off unless wished for, refused where real money could be under way, named so that a test finds them again."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from vault_core import fault_points
from vault_core.errors import ConfigurationError
from vault_core.fault_points import FaultPoint, Record, read_wish

HERE = "http://127.0.0.1:8000"


def test_no_wish_is_no_fault_point() -> None:
    assert read_wish("", HERE) is None
    assert read_wish(" ", "https://pay.example.com") is None


def test_a_wish_names_the_point_and_which_passing() -> None:
    assert read_wish("die at after commit a.b", HERE) == FaultPoint("after commit a.b")
    assert read_wish("die at before send POST /x #3", HERE) == FaultPoint("before send POST /x", 3)
    assert read_wish("write to /tmp/points", HERE) == Record(Path("/tmp/points"))  # noqa: S108 - nothing is written


@pytest.mark.parametrize("wish", ["die at after commit a.b", "write to /tmp/points"])
@pytest.mark.parametrize("url", ["https://pay.example.com", "http://10.0.0.4:8000", "http://0.0.0.0:8000", ""])
def test_an_installation_that_can_be_reached_refuses_to_start_with_one(wish: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_FAULT_POINT"):
        read_wish(wish, url)


@pytest.mark.parametrize("wish", ["yes", "die", "die at ", "after commit a.b"])
def test_a_wish_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(ConfigurationError, match="die at POINT"):
        read_wish(wish, HERE)


def test_points_are_named_by_what_they_stand_in_and_not_by_the_row(tmp_path: Path) -> None:
    def outer() -> None:
        def work() -> None: ...

        fault_points.reach("before commit", work)
        fault_points.reach("after commit", partial(partial(outer)))
        fault_points.reach("after commit", lambda: None)

    file = tmp_path / "points"
    fault_points.arm(Record(file))
    try:
        outer()
        path = f"/v1/loans/42/transactions/external-id/pv-disburse-{'0a' * 16}"
        fault_points.reach("before send", fault_points.place_of("GET", path))
    finally:
        fault_points.arm(None)
    fault_points.reach("after commit", "nobody listens")
    here = f"{__name__}.test_points_are_named_by_what_they_stand_in_and_not_by_the_row"
    assert file.read_text().splitlines() == [
        f"before commit {here}.outer",
        f"after commit {here}.outer",
        f"after commit {here}.outer",
        "before send GET /v1/loans/*/transactions/external-id/pv-disburse-*",
    ]


def test_the_process_dies_there_and_not_before() -> None:
    program = """
from vault_core import fault_points
fault_points.arm(fault_points.read_wish("die at after commit x #2", "http://127.0.0.1"))
for moment in ("after commit", "before commit", "after commit", "after commit"):
    print(moment, flush=True)
    fault_points.reach(moment, "x")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines() == ["after commit", "before commit", "after commit"]
