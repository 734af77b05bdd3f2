"""What every command that touches the database does: settings, a runtime, one piece of work, and a failure a person can read.

Exit codes: 0 done; 1 an outside system refused; 2 the command or a value in it is wrong; 3 a setting, key or file of this
installation is wrong; 4 the named thing does not exist, or its state forbids the act; 5 something could not be reached.
"""

import asyncio
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import stamina
import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import OperationalError

from vault_core.errors import (
    ConfigurationError,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    NotFound,
    RemoteRefusal,
    SealBroken,
    TransientError,
    VaultError,
)
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import Settings, read_settings

T = TypeVar("T")

_LOGIN_NUMBER = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1

_EXIT_CODES: tuple[tuple[type[VaultError], int], ...] = (
    (InvalidInput, 2),
    (ConfigurationError, 3),
    (SealBroken, 3),
    (NotFound, 4),
    (Conflict, 4),
    (InsufficientFunds, 4),
    (TransientError, 5),
    (RemoteRefusal, 1),
)


def settings() -> Settings:
    """The settings of this command. Raises ConfigurationError."""
    return read_settings(os.environ)


def actor() -> str:
    """Who acts, for the audit trail: the login name of the person on this machine, behind su and sudo too."""
    number = _login_number(_LOGIN_NUMBER, os.getuid(), os.environ)
    try:
        return f"ops:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"ops:uid {number}"


def _login_number(kernels: Path, own: int, environment: Mapping[str, str]) -> int:
    """The user number of who logged in. Never from a name in the environment: anybody can set one.

    The kernel keeps the number of a login through su and sudo. Where it has none (a container, a service), root is asked who is
    behind it (SUDO_UID; root could act as anybody anyway), and any other user is itself.
    """
    try:
        kept = int(kernels.read_text(encoding="ascii"))
    except (OSError, ValueError):
        kept = _NO_LOGIN
    if kept != _NO_LOGIN:
        return kept
    behind = environment.get("SUDO_UID", "")
    return int(behind) if own == 0 and behind.isdecimal() else own


def run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Runs `work` on a fresh runtime. A failure is printed and ends the command with its exit code."""
    with failures_told():
        return attempt(work)


def attempt(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """The same, but a failure is raised: for a command that can ask again."""

    async def session() -> T:
        async with open_runtime(settings(), pool_size=2) as runtime:
            return await work(runtime)

    stamina.instrumentation.set_on_retry_hooks([])  # a person waits here: the last failure is told, not each try
    return asyncio.run(session())


@contextmanager
def failures_told() -> Iterator[None]:
    """Prints a VaultError, or a database that does not answer, on stderr and ends the command with its exit code."""
    try:
        yield
    except VaultError as error:
        fail(str(error), exit_code(error))
    except OperationalError as error:
        fail(f"the database does not answer: {str(error.orig).strip()}. Is the stack up (`vault status`)?", 5)


def run_line(line: Callable[[], object]) -> None:
    """Runs a whole command line. An error that is meant for a person is printed as one message, without a traceback."""
    try:
        line()
    except VaultError as error:
        _say(str(error))
        sys.exit(exit_code(error))


def exit_code(error: VaultError) -> int:
    """The exit code that stands for `error`."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def fail(message: str, code: int) -> NoReturn:
    """Ends the command: `message` on stderr, `code` to the shell."""
    _say(message)
    raise typer.Exit(code)


def _say(message: str) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
