"""Bringing one installation up and down. `up` may be called at any time: it makes true what should be, and nothing else."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg

from local_stack import embedded_kafka, embedded_postgres
from local_stack.home import REPOSITORY, Home, check, exists, prepare
from local_stack.kafka_jars import ensure_jars
from local_stack.master_key import ensure_master_key
from local_stack.parts import Part, look
from local_stack.plan import Plan, libpq_url, settle
from local_stack.ports import require_free
from local_stack.processes import Process
from local_stack.starting import Report, quietly, start_all
from local_stack.supervision import end_left_overs
from vault_core.errors import Unreachable
from vault_core.settings import read_settings


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
    tell = report or quietly
    prepare(home)
    with _turn(home):
        plan = settle(home, environment)
        ensure_master_key(home, environment, sealed_data_exists=_has_sealed_data(plan))
        read_settings(plan.environment)  # what the processes would stumble over is told here
        if plan.supervision.is_running() and _last_fingerprint(home) != plan.fingerprint():
            tell("stack", "stopping: its settings have changed")
            plan.supervision.stop()
        if not plan.supervision.is_running():
            _begin(plan, environment, tell)
        start_all(plan, [one for one in plan.processes if _is_wanted(one, without, sandbox=sandbox)], tell)
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


def _has_sealed_data(plan: Plan) -> bool:
    if plan.postgres is not None:
        return (plan.postgres.data / "PG_VERSION").exists()
    try:
        with psycopg.connect(libpq_url(plan.owner_database_url()), connect_timeout=5) as connection:
            there = connection.execute("SELECT to_regclass('public.partner_credentials')").fetchone()
            if there is None or there[0] is None:
                return False
            return connection.execute("SELECT 1 FROM partner_credentials LIMIT 1").fetchone() is not None
    except psycopg.OperationalError as error:
        raise Unreachable(f"the database of VAULT_OWNER_DATABASE_URL does not answer: {str(error).strip()}") from error


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
