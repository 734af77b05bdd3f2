"""A full stack of a test's own: every process under its own supervisor, in a home of its own."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from local_stack import stack
from local_stack.home import REPOSITORY, Home, prepare, remove
from local_stack.parts import look, probes_of
from local_stack.plan import Plan
from local_stack.supervision import ProcessState
from local_stack.waiting import wait_for

DAGSTER = frozenset({"dagster-code", "dagster-webserver", "dagster-daemon"})


class PrivateStack:
    """A running stack. `environment` is what its processes run with: addresses, key file, home."""

    def __init__(self, plan: Plan, given: dict[str, str]) -> None:
        self.plan = plan
        self.home = plan.home
        self.environment = plan.environment
        self.given = given

    @property
    def receiver_url(self) -> str:
        return f"http://127.0.0.1:{self.plan.ports['receiver'].number}"

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.plan.ports['sandbox'].number}"

    def state(self, name: str) -> ProcessState:
        return self.plan.supervision.states()[name]

    def kill(self, name: str) -> int:
        """Kills a process with -9 and returns the pid it had."""
        pid = self.state(name).pid
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        return pid

    def children(self, name: str) -> set[int]:
        pid = self.state(name).pid
        return {child.pid for child in psutil.Process(pid).children()} if pid else set()

    def kill_children(self, name: str) -> set[int]:
        """Kills the processes that `name` has started, with -9, and not itself. Returns their pids."""
        found = self.children(name)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return found

    def wait_until_serving(self, name: str, *, other_than: int | None = None, seconds: float = 30.0) -> None:
        """Returns once `name` serves again, under another pid than `other_than`."""
        ask = probes_of(self.plan)[name]

        def serves() -> bool:
            state = self.state(name)
            return state.state in {"RUNNING", "STARTING"} and state.pid not in {None, other_than} and ask().ok

        wait_for(serves, seconds=seconds, what=f"{name} to serve again")

    def log(self, name: str) -> str:
        return self.plan.supervision.log_of(name).read_text(errors="replace")

    def stop(self) -> None:
        stack.down(self.home, self.given)


@contextmanager
def start_private_stack(
    *, sandbox: bool = False, without: frozenset[str] = frozenset(), keep: bool = False, **settings: str
) -> Iterator[PrivateStack]:
    """A stack in a fresh home, serving; stopped and deleted at the end. `settings` are its VAULT_... variables."""
    folder = Path(tempfile.mkdtemp(prefix="pvs"))
    given = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")} | settings
    home = Home(folder / "home")
    prepare_with_shared_jars(home)
    try:
        plan = stack.up(home, given, sandbox=sandbox, without=without)
        yield PrivateStack(plan, given)
    finally:
        stack.down(home, given)
        if not keep:
            home.jars.unlink()
            remove(home)
            shutil.rmtree(folder, ignore_errors=True)


def prepare_with_shared_jars(home: Home) -> None:
    """Prepares `home` so that it uses the clone's own copy of the broker's program, fetched once for all tests."""
    shared = Home(REPOSITORY / ".vault")
    prepare(shared)
    shared.jars.mkdir(exist_ok=True)
    prepare(home)
    home.jars.symlink_to(shared.jars)


def serving(running: PrivateStack) -> dict[str, bool]:
    """Every part and whether it serves."""
    return {part.name: part.healthy for part in look(running.plan)}
