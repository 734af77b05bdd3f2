import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.home import REPOSITORY, Home
from local_stack.plan import settle
from local_stack.stack import down
from tests.private_stack import PrivateStack, prepare_with_shared_jars


class Vault:
    """The `vault` command on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
        self.environment["VAULT_HOME"] = str(home)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / "vault"), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment, cwd="/", timeout=240)


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    home = Path(tempfile.mkdtemp(prefix="pve")) / "home"
    command = Vault(home)
    prepare_with_shared_jars(command.home)
    yield command
    if home.exists():
        down(command.home, command.environment)
    shutil.rmtree(home.parent)


def test_up_brings_every_part_and_status_says_so(vault: Vault) -> None:
    done = vault("up")
    assert done.returncode == 0, done.stderr
    status = vault("status", "--json")
    assert status.returncode == 0, status.stdout
    told = json.loads(status.stdout)
    assert told["ok"] is True
    parts = {part["name"]: part for part in told["parts"]}
    assert {"postgres", "kafka", "receiver", "worker-1", "dagster-code", "dagster-webserver", "dagster-daemon"} <= parts.keys()
    assert parts["postgres"]["version"].startswith("18")
    assert parts["kafka"]["version"].startswith("4.4")
    assert set(parts["kafka"]) == {"name", "state", "healthy", "detail", "address", "version", "pid", "restarts"}


@pytest.mark.parametrize("name", ["dagster-code", "dagster-webserver", "dagster-daemon"])
def test_dagster_killed_with_9_comes_back_by_itself(vault: Vault, name: str) -> None:
    stack = PrivateStack(settle(vault.home, vault.environment), vault.environment)
    killed = stack.kill(name)
    stack.wait_until_serving(name, other_than=killed, seconds=90)
    stack.wait_until_serving("dagster-webserver", seconds=90)


def test_the_secrets_of_the_installation_are_in_no_log_and_in_no_process_list(vault: Vault) -> None:
    secret = vault.home.master_key.read_text().strip().partition(":")[2]
    for file in [*vault.home.logs.iterdir(), *vault.home.supervisor.iterdir()]:
        assert secret not in file.read_text(errors="replace"), file
    assert secret not in subprocess.run(["ps", "-ewwo", "args"], check=True, capture_output=True, text=True).stdout


def test_logs_shows_the_end_of_one_part_and_refuses_what_is_none(vault: Vault) -> None:
    shown = vault("logs", "kafka", "-n", "5")
    assert shown.returncode == 0
    assert "Kafka Server started" in shown.stdout
    refused = vault("logs", "../master")
    assert refused.returncode == 2
    assert "there are logs of" in refused.stderr


def test_status_fails_when_a_part_does_not_serve(vault: Vault) -> None:
    stack = PrivateStack(settle(vault.home, vault.environment), vault.environment)
    os.kill(stack.state("receiver").pid or 0, signal.SIGSTOP)
    for child in stack.children("receiver"):
        os.kill(child, signal.SIGSTOP)
    try:
        status = vault("status")
        assert status.returncode == 1
        assert "does not answer" in status.stdout
    finally:
        for child in stack.children("receiver"):
            os.kill(child, signal.SIGCONT)
        os.kill(stack.state("receiver").pid or 0, signal.SIGCONT)


def test_reset_asks_and_then_leaves_nothing(vault: Vault) -> None:
    sockets = Path(vault.home.sockets_note.read_text().strip())
    assert vault("reset").returncode != 0
    assert vault.home.master_key.exists()
    done = vault("reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert not vault.home.path.exists()
    assert not sockets.exists()
    assert any((REPOSITORY / ".vault" / "kafka-jars").iterdir())
