"""Bringing one installation up and down. `up` may be called at any time: it makes true what should be, and nothing else."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy.exc import OperationalError

from local_stack import embedded_kafka, embedded_postgres
from local_stack.home import REPOSITORY, Home, check, exists, prepare
from local_stack.kafka_jars import ensure_jars
from local_stack.master_key import ensure_master_key
from local_stack.parts import Part, look, probes_of
from local_stack.plan import Plan, libpq_url, settle
from local_stack.ports import require_free
from local_stack.processes import Process
from local_stack.supervision import end_left_overs
from local_stack.topics import ensure_topics
from local_stack.waiting import wait_for
from vault_core.database import open_owner_engine
from vault_core.errors import ConfigurationError, Unreachable

Report = Callable[[str, str], None]  # (part or step, what is happening to it)
READY_SECONDS = 120.0
_DATABASE_SECONDS = 60.0


def up(
    home: Home,
    environment: Mapping[str, str],
    *,
    sandbox: bool = False,
    without: frozenset[str] = frozenset(),
    report: Report | None = None,
) -> Plan:
    """Starts what does not run and returns when every part serves. Idempotent; concurrent calls take turns.

    `without` names processes to leave out (crash tests and benchmarks need no Dagster).
    When settings have changed since the last call, the processes are started anew with the new ones. Raises ConfigurationError
    for what a person must mend first (nothing is half-done then: what was started stays and a repeated call goes on), and
    Unreachable for a part that did not come to serve in two minutes, with the end of its log.
    """
    tell = report or _quietly
    prepare(home)
    with _turn(home):
        plan = settle(home, environment)
        ensure_master_key(home, environment, sealed_data_exists=_has_sealed_data(plan))
        if plan.supervision.is_running() and _last_fingerprint(home) != plan.fingerprint():
            tell("stack", "stopping: its settings have changed")
            plan.supervision.stop()
        if not plan.supervision.is_running():
            _begin(plan, environment, tell)
        _start_all(plan, [one for one in plan.processes if _is_wanted(one, without, sandbox=sandbox)], tell)
    return plan


def down(home: Home, environment: Mapping[str, str]) -> bool:
    """Stops every process, PostgreSQL last. Returns whether anything ran. Nothing is lost by it."""
    check(home)
    if not exists(home):
        return False
    with _turn(home):
        supervision = settle(home, environment).supervision
        ran = supervision.is_running()
        supervision.stop()
        end_left_overs(home)
    return ran


def status(home: Home, environment: Mapping[str, str]) -> list[Part]:
    """Every part as it is now; empty if `vault up` has never run here."""
    check(home)
    return look(settle(home, environment)) if exists(home) else []


def process_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that commands and processes of this installation run with. Raises ConfigurationError if there is none."""
    check(home)
    if not exists(home):
        raise ConfigurationError(f"there is no installation in {home.path} yet: `./vault up` makes one")
    return settle(home, environment).environment


def _begin(plan: Plan, environment: Mapping[str, str], tell: Report) -> None:
    """Everything before the first process: left-overs, ports, files, the supervisor."""
    end_left_overs(plan.home)
    require_free(plan.ports[name] for process in plan.processes if not process.only_when_asked for name in process.ports)
    with ThreadPoolExecutor(2) as pool:
        kafka = pool.submit(_make_kafka_ready, plan, environment, tell)
        if plan.postgres is not None:
            tell("postgres", "preparing its data")
            embedded_postgres.make_ready(plan.postgres)
        kafka.result()
    _write_dagster_home(plan)
    plan.supervision.start(plan.supervision.settings_for(plan.processes), plan.environment)
    _fingerprint_file(plan.home).write_text(plan.fingerprint(), encoding="ascii")


def _make_kafka_ready(plan: Plan, environment: Mapping[str, str], tell: Report) -> None:
    if plan.kafka is None:
        return
    tell("kafka", "checking its program")
    ensure_jars(
        plan.kafka.jars,
        environment,
        progress=lambda done, needed: tell("kafka", f"fetching its program, {done * 100 // needed} %"),
    )
    embedded_kafka.make_ready(plan.kafka)


def _is_wanted(process: Process, without: frozenset[str], *, sandbox: bool) -> bool:
    return process.name not in without and (sandbox or not process.only_when_asked)


def _start_all(plan: Plan, wanted: list[Process], tell: Report) -> None:
    """Starts each process as soon as what it needs is there, and waits until all serve."""
    if any(process.name == "sandbox" for process in wanted) and plan.supervision.states()["sandbox"].pid is None:
        require_free([plan.ports["sandbox"]])
    _start(plan, wanted, frozenset(), tell)
    with ThreadPoolExecutor(2) as pool:
        steps: dict[str, Future[None]] = {
            "schema": pool.submit(_make_schema, plan, tell),
            "topics": pool.submit(_make_topics, plan, tell),
        }
        steps["schema"].result()
        _start(plan, wanted, frozenset({"schema"}), tell)
        steps["topics"].result()
        _start(plan, wanted, frozenset({"schema", "topics"}), tell)
    with ThreadPoolExecutor(len(wanted)) as pool:
        for waiting in [pool.submit(_wait_until_it_serves, plan, process.name, tell) for process in wanted]:
            waiting.result()


def _start(plan: Plan, wanted: list[Process], needs: frozenset[str], tell: Report) -> None:
    for process in wanted:
        if process.needs == needs:
            tell(process.name, "starting")
            plan.supervision.start_process(process.name)


def _make_schema(plan: Plan, tell: Report) -> None:
    place = plan.postgres
    if place is not None:
        _wait_until_it_serves(plan, "postgres", _quietly, probe=lambda: embedded_postgres.answers(place))
        embedded_postgres.ensure_databases(place)
    tell("postgres", "bringing the schema up to date")
    from vault_core.schema import migrate  # Alembic takes most of a second to import, and only this needs it

    owner = open_owner_engine(plan.database_url)
    try:
        migrate(owner, now=datetime.now(UTC))
    except OperationalError as error:
        raise Unreachable(f"the database of VAULT_DATABASE_URL does not answer: {str(error.orig).strip()}") from error
    finally:
        owner.dispose()
    if plan.postgres is None:
        _ensure_dagster_database(plan)
    tell("postgres", "ready")


def _make_topics(plan: Plan, tell: Report) -> None:
    if plan.kafka is not None:
        _wait_until_it_serves(plan, "kafka", _quietly)
    ensure_topics(plan.kafka_bootstrap)
    tell("kafka", "ready")


def _wait_until_it_serves(plan: Plan, name: str, tell: Report, *, probe: Callable[[], bool] | None = None) -> None:
    ask = probes_of(plan)[name]
    last = ["no answer"]

    def serves() -> bool:
        health = ask()
        last[0] = health.detail
        return health.ok

    try:
        wait_for(probe or serves, seconds=READY_SECONDS, what=f"{name} to serve")
    except Unreachable as error:
        raise Unreachable(f"{name} does not serve: {last[0]}. {_end_of_log(plan, name)}") from error
    tell(name, "ready")


def _quietly(_name: str, _what: str) -> None:
    """Reports nothing."""


def _end_of_log(plan: Plan, name: str) -> str:
    path = plan.supervision.log_of(name)
    try:
        log = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"It wrote no log; see {plan.supervision.log_file}"
    module = {"postgres": embedded_postgres, "kafka": embedded_kafka}.get(name)
    explained = module.explain(log) if module else None
    return (
        f"{explained[0].upper()}{explained[1:]}" if explained else f"Its log ({path}) ends:\n" + "\n".join(log.splitlines()[-8:])
    )


def _has_sealed_data(plan: Plan) -> bool:
    if plan.postgres is not None:
        return (plan.postgres.data / "PG_VERSION").exists()
    try:
        with psycopg.connect(libpq_url(plan.database_url), connect_timeout=5) as connection:
            there = connection.execute("SELECT to_regclass('public.partner_credentials')").fetchone()
            if there is None or there[0] is None:
                return False
            return connection.execute("SELECT 1 FROM partner_credentials LIMIT 1").fetchone() is not None
    except psycopg.OperationalError as error:
        raise Unreachable(f"the database of VAULT_DATABASE_URL does not answer: {str(error).strip()}") from error


def _ensure_dagster_database(plan: Plan) -> None:
    name = plan.dagster_database_url.split("?")[0].rpartition("/")[2]
    try:
        with psycopg.connect(libpq_url(plan.database_url), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    except psycopg.Error as error:
        raise ConfigurationError(
            f"Dagster needs a database of its own, {name}, and it could not be made ({str(error).strip()}): make it, or name "
            "another in VAULT_DAGSTER_DATABASE_URL"
        ) from error


def _write_dagster_home(plan: Plan) -> None:
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(REPOSITORY / name, plan.home.dagster / name)


def _fingerprint_file(home: Home) -> Path:
    return home.supervisor / "fingerprint"


def _last_fingerprint(home: Home) -> str:
    try:
        return str(_fingerprint_file(home).read_text(encoding="ascii"))
    except FileNotFoundError:
        return ""


@contextmanager
def _turn(home: Home) -> Iterator[None]:
    descriptor = os.open(home.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
