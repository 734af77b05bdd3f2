"""`vault test`: the project's tests with everything they need."""

import os
import subprocess
import sys

import typer

from local_stack.home import REPOSITORY

_LEAST_PROCESSES = 2  # a good half of the time is waiting for other processes
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("test", context_settings=CONTEXT)(test)


def test(context: typer.Context) -> None:
    """Run the tests. What follows is given to pytest: `vault test tests/unit -k ledger`.

    Alone it runs the whole suite, file by file on as many processes as there are cores, each with servers of its own.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VAULT_") or name.startswith("VAULT_TEST_")
    }
    command = [sys.executable, "-m", "pytest", *(context.args or _whole_suite())]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=environment)
    raise typer.Exit(done.returncode)


def _whole_suite() -> list[str]:
    return ["-n", str(max(os.cpu_count() or 1, _LEAST_PROCESSES)), "--dist", "loadfile"]
