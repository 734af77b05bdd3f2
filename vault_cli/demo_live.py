"""The options of `vault demo` that bring in a running Mifos X, checked."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from local_stack.demo.live_office import LiveMifos
from local_stack.demo.live_plan import RUNNING_LOANS
from vault_cli.session import fail

PASSWORD_VARIABLE = "VAULT_DEMO_MIFOS_PASSWORD"  # noqa: S105 - its name
_USAGE = 2
_FEWEST, _MOST = 2, 2000


def live_server(
    url: str, user: str, tenant: str, password_file: Path | None, loans: int, restart: str, *, for_tests: bool
) -> LiveMifos | None:
    """The server that the options name; None without --mifos. Refuses one that nobody has called a test server."""
    if not url:
        if restart or for_tests or password_file is not None:
            _refuse("--mifos is missing: the other --mifos options say how to use the server that it names")
        return None
    if not url.startswith(("http://", "https://")):
        _refuse(f"--mifos {url!r} is no address: write it as https://HOST/fineract-provider/api/v1")
    if not _FEWEST <= loans <= _MOST:
        _refuse(f"--mifos-loans {loans} must lie between {_FEWEST} and {_MOST}")
    if not for_tests:
        _refuse(
            f"the demo would make {loans + RUNNING_LOANS} clients with loans, {loans} of them approved, a loan product, a "
            f"charge, savings accounts and a web hook in {url}, and disburse and repay the loans there; they stay. If no "
            "real people are in that server, say so with --mifos-is-a-test-server"
        )
    if restart:
        Console(stderr=True).print(f"In the middle of the day this is run once: {restart}", highlight=False, markup=False)
    return LiveMifos(url.rstrip("/"), tenant, user, _password(password_file, user), loans, restart or None)


def _password(file: Path | None, user: str) -> str:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            _refuse(f"--mifos-password-file {file} cannot be read: {error.strerror}")
    if given := os.environ.get(PASSWORD_VARIABLE):
        return given
    if not sys.stdin.isatty():
        _refuse(f"no password of {user!r}: give --mifos-password-file, or set {PASSWORD_VARIABLE}")
    return str(typer.prompt(f"Password of {user} in Mifos X", hide_input=True))


def _refuse(why: str) -> NoReturn:
    fail(why, _USAGE)
