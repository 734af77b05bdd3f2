"""`vault up`, `down`, `status`, `logs`, `reset`: the processes of this installation."""

import json
import os
import sys
import time
from contextlib import AbstractContextManager
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from local_stack import home as homes
from local_stack import kafka_class_cache, stack
from local_stack.parts import Part, unhealthy
from local_stack.plan import process_environment
from vault_cli.halt_view import halt_banner, halt_json
from vault_cli.session import attempt, fail, failures_told
from vault_core.disbursements.payout_halt import Halt, halt_in_force
from vault_core.errors import VaultError
from vault_core.runtime import Runtime

console = Console(stderr=True)
_HEALTH_FAILED = 1
_USAGE = 2
_WIDE = 160  # of a table that goes to a file or a pipe


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)
    app.command()(reset)


def up(
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Also start the stand-ins of M-Pesa, Mifos X and SMS.")] = False,
) -> None:
    """Start everything that does not run yet: PostgreSQL, Kafka, receiver, stream workers, Dagster."""
    started = time.monotonic()
    home = homes.home_of(os.environ)
    with failures_told(), _Progress() as progress:
        stack.up(home, os.environ, sandbox=sandbox, report=progress.tell)
    kafka_class_cache.make_in_background(home.jars, os.environ)
    console.print(f"Everything serves, after {time.monotonic() - started:.1f} s.")
    _print_parts(stack.status(home, os.environ))


def down() -> None:
    """Stop everything, the demo too. Nothing is lost: `vault up` goes on where this left off."""
    home = homes.home_of(os.environ)
    with failures_told(), console.status("stopping"):
        stopped = [found.path for found in _both(home) if stack.down(found, {**os.environ, "VAULT_HOME": str(found.path)})]
    console.print("\n".join(f"Stopped {escape(str(path))}." for path in stopped) or "Nothing was running.", highlight=False)


def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: {parts: [{name, state, healthy, ...}], ok, halt}.")
    ] = False,
) -> None:
    """Show every part with its address, version and health. Ends with 1 if one that should serve does not."""
    with failures_told():
        parts = stack.status(homes.home_of(os.environ), os.environ)
    ok = bool(parts) and not unhealthy(parts)
    halt = _halt(homes.home_of(os.environ)) if any(part.name == "postgres" and part.healthy for part in parts) else None
    if as_json:
        typer.echo(json.dumps({"ok": ok, "parts": [part.to_json() for part in parts], "halt": halt_json(halt)}, indent=2))
    elif parts:
        _print_parts(parts)
        if halt is not None:
            console.print(halt_banner(halt))
    else:
        console.print("There is no installation here yet: `./vault up` makes one.")
    if not ok:
        raise typer.Exit(_HEALTH_FAILED)


def _halt(home: homes.Home) -> Halt | None:
    """The halt of all sending, if the database that answers has one and is of this version."""

    async def look(runtime: Runtime) -> Halt | None:
        async with runtime.engine.connect() as connection:
            return await halt_in_force(connection)

    os.environ.update(process_environment(home, os.environ))
    try:
        return attempt(look)
    except (VaultError, DBAPIError):
        return None


def logs(
    name: Annotated[str, typer.Argument(help="A part, as `vault status` names it.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on showing what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many lines from the end.")] = 100,
) -> None:
    """Show the end of a part's log."""
    folder = homes.home_of(os.environ).logs
    path = folder / f"{name}.log"
    if "/" in name or not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none yet"
        fail(f"there is no log of {name!r}; there are logs of: {known}", _USAGE)
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(path)])  # noqa: S606, S607 - the system's own tail
    with path.open(encoding="utf-8", errors="replace") as file:
        typer.echo("".join(file.readlines()[-lines:]), nl=False)


def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop everything and delete this installation with all its data: ledger, keys, reports."""
    home = homes.home_of(os.environ)
    if not homes.exists(home):
        with failures_told():
            homes.check(home)
        console.print(f"There is no installation in {home.path}.")
        return
    if not yes:
        console.print(
            f"This deletes [bold]{escape(str(home.path))}[/]: the ledger, the master key, every report. It cannot be undone."
        )
        typer.confirm("Delete it?", abort=True, err=True)
    with failures_told():
        for found in _both(home):
            stack.down(found, {**os.environ, "VAULT_HOME": str(found.path)})
        homes.remove(home)
    console.print("Deleted.")


def _both(home: homes.Home) -> list[homes.Home]:
    """The demo's installation, if there is one, and this one."""
    return [found for found in (homes.demo_home(home), home) if homes.exists(found)]


class _Progress(AbstractContextManager["_Progress"]):
    """A small table of what each part is doing, live on a terminal; lines where there is none."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()

    def tell(self, name: str, what: str) -> None:
        """Shows that `name` is now at `what`."""
        if self._states.get(name) == what:
            return
        self._states[name] = what
        if self._live is None:
            console.print(f"{name}: {what}", highlight=False)
            return
        table = Table.grid(padding=(0, 2))
        for part, state in self._states.items():
            table.add_row(escape(part), f"[green]{state}[/]" if state == "ready" else escape(state))
        self._live.update(table)


def _print_parts(parts: list[Part]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "health", "address", "version", "pid", "restarts"):
        table.add_column(column, overflow="fold")
    for part in parts:
        health = "[green]serves[/]" if part.healthy else f"[red]{escape(part.state.lower())}[/] {escape(part.detail)}"
        pid = str(part.pid or "")
        table.add_row(part.name, health, escape(part.address), part.version, pid, str(part.restarts))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
