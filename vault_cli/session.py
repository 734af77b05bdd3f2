"""What every command that touches the database does: settings, a runtime, one piece of work, and a failure a person can read.

Exit codes: 0 done; 1 an outside system refused; 2 the command or a value in it is wrong; 3 a setting, key or file of this
installation is wrong; 4 the named thing does not exist, or its state forbids the act; 5 something could not be reached.
"""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import stamina
import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import OperationalError

from vault_core.errors import (
    ConfigurationError,
    Conflict,
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

_EXIT_CODES: tuple[tuple[type[VaultError], int], ...] = (
    (InvalidInput, 2),
    (ConfigurationError, 3),
    (SealBroken, 3),
    (NotFound, 4),
    (Conflict, 4),
    (TransientError, 5),
    (RemoteRefusal, 1),
)


def settings() -> Settings:
    """The settings of this command. Raises ConfigurationError."""
    return read_settings(os.environ)


def actor() -> str:
    """Who acts, for the audit trail: the login name on this machine."""
    try:
        return f"ops:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"ops:uid {os.getuid()}"


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


def exit_code(error: VaultError) -> int:
    """The exit code that stands for `error`."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def fail(message: str, code: int) -> NoReturn:
    """Ends the command: `message` on stderr, `code` to the shell."""
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)
