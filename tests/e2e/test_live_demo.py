"""The demo with one lender more on a Mifos X of its own, killed with -9 in the middle: here a second sandbox, a process of its own.

With VAULT_TEST_MIFOS_URL (and _USER, _PASSWORD, _TENANT) it is a real one; VAULT_TEST_MIFOS_RESTART is then the command that kills and
restarts it, without which it is left in peace.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_stack.home import REPOSITORY, Home, remove
from tests.private_stack import prepare_with_shared_jars
from tests.sandbox_process import free_port
from vault_cli.demo_live import PASSWORD_VARIABLE

_START = """
import os, pathlib, signal, subprocess, sys, time, urllib.request

pid, port, state = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if pid.exists():
    os.kill(int(pid.read_text()), signal.SIGKILL)
command = [sys.executable, "-m", "sandbox", "--port", port, "--state", state]
new = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
pid.write_text(str(new.pid))
for _ in range(200):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("the second sandbox did not come up")
"""
LOANS = 24

pytestmark = pytest.mark.campaign  # two minutes: a second whole day


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pvl"))
    home = Home(folder / "home")
    prepare_with_shared_jars(home)
    yield folder
    remove(home)


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[dict[str, str]]:
    """The options that name the live server, and how it is restarted."""
    if url := os.environ.get("VAULT_TEST_MIFOS_URL"):
        restart = os.environ.get("VAULT_TEST_MIFOS_RESTART", "")
        user, tenant = os.environ["VAULT_TEST_MIFOS_USER"], os.environ["VAULT_TEST_MIFOS_TENANT"]
        password = os.environ["VAULT_TEST_MIFOS_PASSWORD"]
        yield {"url": url, "user": user, "tenant": tenant, "password": password, "restart": restart}
        return
    start, pid, port = place / "start.py", place / "sandbox.pid", free_port()
    start.write_text(_START)
    command = [sys.executable, str(start), str(pid), str(port), str(place / "journal")]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=60)
    world = {"mifos": {"office": {"users": [{"username": "mifos", "password": "secret"}]}}, "settings": {"mifos_latency_ms": 40}}
    httpx.post(f"http://127.0.0.1:{port}/control/setup", json=world).raise_for_status()
    url = f"http://127.0.0.1:{port}/mifos/office/fineract-provider/api/v1"
    restart = f"cd {REPOSITORY} && exec {' '.join(command)}"
    yield {"url": url, "user": "mifos", "tenant": "default", "password": "secret", "restart": restart}
    os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def finished(place: Path, server: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    report = place / "out.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
    environment |= {"VAULT_HOME": str(place / "home"), PASSWORD_VARIABLE: server["password"]}
    options = ["--mifos", server["url"], "--mifos-user", server["user"], "--mifos-tenant", server["tenant"]]
    options += ["--mifos-loans", str(LOANS), "--mifos-restart", server["restart"], "--mifos-is-a-test-server"]
    done = subprocess.run(
        [str(REPOSITORY / "vault"), "demo", "--exit", "--seed", "5", "--json", str(report), *options],
        check=False, capture_output=True, text=True, cwd="/", timeout=1500, env=environment,
    )  # fmt: skip
    return done, json.loads(report.read_text()) if report.exists() else {}


@pytest.mark.timeout(1600)
def test_the_day_holds_although_the_server_was_killed_in_the_middle(finished, server) -> None:
    done, report = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["ok"] is True
    if server["restart"]:
        assert LOANS // 2 <= report["live"]["kill"]["posted"] <= LOANS
        assert "It was killed when" in " ".join(done.stdout.split())


def test_every_loan_is_posted_there_once_and_every_shilling_agrees(finished) -> None:
    _, report = finished
    assert report["live"]["disbursements_posted"] == LOANS
    lines = [line for line in report["proof"] if line["partner"] == "live"]
    assert lines
    assert all(line["truth_cents"] > 0 for line in lines if "Mifos X" in line["line"])
    unknown = {case["amount_cents"] for case in report["open_cases"] if case["kind"] == "sms_unknown"}
    assert all(line["difference_cents"] == 0 or unknown for line in lines)


def test_no_web_hook_is_left_in_the_server(finished, server) -> None:
    assert finished[1]["ok"]
    hooks = httpx.get(
        f"{server['url']}/hooks",
        auth=(server["user"], server["password"]),
        headers={"Fineract-Platform-TenantId": server["tenant"]},
    ).json()
    ours = [hook for hook in hooks if hook["displayName"] == "Payment Vault" and "127.0.0.1" in json.dumps(hook["config"])]
    assert ours == []
