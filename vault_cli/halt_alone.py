"""`vault halt` without the other commands, whose imports take longer than it takes to stop everything."""

import sys

import typer

from vault_cli.halt import halt
from vault_cli.installation import use_installation
from vault_cli.session import run_line

app = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False)  # as in vault_cli/main.py
app.command()(halt)


def main() -> None:
    """Runs the command with the words behind `vault halt`."""

    def line() -> None:
        use_installation()
        app(sys.argv[2:], prog_name="vault halt")

    run_line(line)
