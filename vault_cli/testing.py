"""`vault test`: the project's tests with everything they need."""

import os
import subprocess
import sys

import typer

from local_stack.home import REPOSITORY

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("test", context_settings=CONTEXT)(test)


def test(context: typer.Context) -> None:
    """Run the tests. What follows is given to pytest: `vault test tests/unit -k ledger`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VAULT_") or name.startswith("VAULT_TEST_")
    }
    done = subprocess.run([sys.executable, "-m", "pytest", *context.args], check=False, cwd=REPOSITORY, env=environment)
    raise typer.Exit(done.returncode)
