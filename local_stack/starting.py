"""Starting the processes, each as soon as what it needs is there, and waiting until all of them serve."""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from threading import Event

import psycopg
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from local_stack import embedded_kafka, embedded_postgres
from local_stack.parts import probes_of
from local_stack.plan import Plan, libpq_url
from local_stack.ports import require_free
from local_stack.processes import Process
from local_stack.topics import ensure_topics
from local_stack.waiting import wait_for
from vault_core.database import APP_ROLE, open_owner_engine
from vault_core.errors import ConfigurationError, Unreachable
from vault_core.settings import read_pace

Report = Callable[[str, str], None]  # (part or step, what is happening to it)
_READY_SECONDS = 120.0
_LOOK_EVERY = 0.1
_MOST_RESTARTS = 3  # of a part while we wait for it: more will not make it serve
_LINES_OF_LOG = 20  # the end may be a new start that has not failed yet: the one before it says why


class _Abandoned(Exception):
    """Another part has failed, or the person has had enough: the wait is over."""


def start_all(plan: Plan, wanted: list[Process], tell: Report) -> None:
    """Starts `wanted` in the order of their needs, makes schema and topics on the way, and returns when all serve.

    Raises ConfigurationError or Unreachable for the first part that does not come to serve; the others are left as they are.
    """
    if any(process.name == "sandbox" for process in wanted) and plan.supervision.states()["sandbox"].pid is None:
        require_free([plan.ports["sandbox"]])
    start = _Start(plan, tell)
    try:
        start.run(wanted)
    finally:
        start.over.set()


class _Start:
    """One start under way."""

    def __init__(self, plan: Plan, tell: Report) -> None:
        self._plan = plan
        self._tell = tell
        self.over = Event()

    def run(self, wanted: list[Process]) -> None:
        self._start(wanted, frozenset())
        with ThreadPoolExecutor(len(wanted) + 2) as pool:
            try:
                schema, topics = pool.submit(self._make_schema), pool.submit(self._make_topics)
                schema.result()
                self._start(wanted, frozenset({"schema"}))
                topics.result()
                self._start(wanted, frozenset({"schema", "topics"}))
                done, _ = wait([pool.submit(self._wait_for, process.name) for process in wanted], return_when=FIRST_EXCEPTION)
                for part in done:
                    part.result()
            finally:
                self.over.set()  # lets the other waits end, so that a failure and Ctrl-C are told at once

    def _start(self, wanted: list[Process], needs: frozenset[str]) -> None:
        for process in wanted:
            if process.needs == needs:
                self._tell(process.name, "starting")
                self._plan.supervision.start_process(process.name)

    def _make_schema(self) -> None:
        place = self._plan.postgres
        if place is not None:
            self._wait_for("postgres", probe=lambda: embedded_postgres.answers(place))
            embedded_postgres.ensure_databases(place)
        self._tell("postgres", "bringing the schema up to date")
        _migrate(self._plan)
        if place is None:
            _ensure_dagster_database(self._plan)
        self._tell("postgres", "ready")

    def _make_topics(self) -> None:
        if self._plan.kafka is not None:
            self._wait_for("kafka")
        ensure_topics(self._plan.kafka_bootstrap)
        self._tell("kafka", "ready")

    def _wait_for(self, name: str, *, probe: Callable[[], bool] | None = None) -> None:
        ask = probes_of(self._plan)[name]
        before = self._plan.supervision.states()[name].restarts
        last = ["no answer"]
        looks = [0]

        def serves() -> bool:
            if self.over.is_set():
                raise _Abandoned
            looks[0] += 1
            if looks[0] % 10 == 0 and self._plan.supervision.states()[name].restarts - before > _MOST_RESTARTS:
                raise Unreachable(f"it ended {_MOST_RESTARTS} times")
            if probe is not None:
                return probe()
            health = ask()
            last[0] = health.detail
            return health.ok

        try:
            wait_for(serves, seconds=_READY_SECONDS, what=f"{name} to serve", every=_LOOK_EVERY)
        except Unreachable as error:
            raise Unreachable(f"{name} does not serve: {last[0]}. {_end_of_log(self._plan, name)}") from error
        if probe is None:
            self._tell(name, "ready")


def quietly(_name: str, _what: str) -> None:
    """Reports nothing."""


def _migrate(plan: Plan) -> None:
    from vault_core.schema import migrate  # Alembic takes most of a second to import, and only this needs it

    owner = open_owner_engine(plan.owner_database_url())
    try:
        migrate(owner, now=datetime.now(UTC), assign_alone_up_to=read_pace(plan.environment).assign_alone_up_to)
    except OperationalError as error:
        raise Unreachable(f"the database does not answer: {str(error.orig).strip()}") from error
    except DBAPIError as error:
        raise ConfigurationError(f"the database's schema could not be brought up to date: {str(error.orig).strip()}") from error
    finally:
        owner.dispose()


def _ensure_dagster_database(plan: Plan) -> None:
    url = make_url(plan.dagster_database_url)
    name, login = str(url.database), url.username or APP_ROLE
    try:
        psycopg.connect(libpq_url(plan.dagster_database_url), connect_timeout=5).close()
    except psycopg.OperationalError as missing:
        try:
            with psycopg.connect(libpq_url(plan.owner_database_url()), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(login)))
        except psycopg.Error as error:
            raise ConfigurationError(
                f"Dagster needs a database of its own, {name}. It cannot be reached ({str(missing).strip()}) and could not be "
                f"made ({str(error).strip()}): make it, or name another in VAULT_DAGSTER_DATABASE_URL"
            ) from error


def _end_of_log(plan: Plan, name: str) -> str:
    path = plan.supervision.log_of(name)
    try:
        log = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"It wrote no log; see {plan.supervision.log_file}"
    module = {"postgres": embedded_postgres, "kafka": embedded_kafka}.get(name)
    explained = module.explain(log) if module else None
    if explained:
        return f"{explained[0].upper()}{explained[1:]}"
    return f"Its log ({path}) ends:\n" + "\n".join(log.splitlines()[-_LINES_OF_LOG:])
