"""What one installation consists of, settled from its home and the environment: addresses, processes and their settings."""

import hashlib
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from local_stack import embedded_postgres
from local_stack.embedded_kafka import KafkaPlace
from local_stack.embedded_postgres import PostgresPlace
from local_stack.home import REPOSITORY, Home, check, exists, sockets_folder
from local_stack.kept_settings import with_kept_settings
from local_stack.ports import Port, settle_ports
from local_stack.processes import Process, processes_of
from local_stack.supervision import Supervision
from vault_core.database import APP_ROLE
from vault_core.errors import ConfigurationError
from vault_core.settings import sqlalchemy_url

_MOST_WORKERS = 64
_OWNER_SETTING = "VAULT_OWNER_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Plan:
    """One installation, settled. `postgres` and `kafka` are None when the user gives his own."""

    home: Home
    ports: dict[str, Port]
    postgres: PostgresPlace | None
    kafka: KafkaPlace | None
    database_url: str  # of the application's login: what every process has
    given_owner_url: str | None  # see owner_database_url
    dagster_database_url: str
    kafka_bootstrap: str
    processes: tuple[Process, ...]
    environment: dict[str, str]  # of every process
    supervision: Supervision

    def owner_database_url(self) -> str:
        """The address of who owns the tables; no process has it. Raises ConfigurationError if it is not given."""
        if self.postgres is not None:
            return self.postgres.url("vault")
        if self.given_owner_url is None:
            raise ConfigurationError(
                f"{_OWNER_SETTING} is not set. With a database of yours, VAULT_DATABASE_URL is the address under which processes "
                f"work, as {APP_ROLE}, and {_OWNER_SETTING} the one under which `vault up` makes the tables: see docs/stack.md"
            )
        return self.given_owner_url

    def fingerprint(self) -> str:
        """Changes when the processes must be started anew to have the present settings."""
        settings = {name: value for name, value in self.environment.items() if re.match(r"VAULT_|DAGSTER|PYTHON", name)}
        text = repr(sorted(settings.items())) + self.supervision.settings_for(self.processes)
        return hashlib.sha256(text.encode()).hexdigest()


def settle(home: Home, environment: Mapping[str, str]) -> Plan:
    """The plan for `home`, which must be prepared. Raises ConfigurationError naming the setting that is wrong."""
    environment = with_kept_settings(home, environment)
    sockets = sockets_folder(home)
    ports = settle_ports(home, environment, random.SystemRandom())
    given_database = environment.get("VAULT_DATABASE_URL", "").strip()
    given_kafka = environment.get("VAULT_KAFKA_BOOTSTRAP", "").strip()
    postgres = None if given_database else embedded_postgres.place_for(home.postgres, sockets / "postgres", environment)
    kafka = None if given_kafka else KafkaPlace(home.kafka, home.jars, ports["kafka"].number, ports["kafka_controller"].number)
    given_owner = environment.get(_OWNER_SETTING, "").strip()
    database_url = postgres.url("vault", user=APP_ROLE) if postgres else sqlalchemy_url(given_database)
    dagster_url = _dagster_database_url(environment, postgres, database_url)
    bootstrap = kafka.bootstrap if kafka else given_kafka
    processes = processes_of(
        home,
        ports,
        postgres,
        kafka,
        workers=_count(environment, "VAULT_STREAM_WORKERS"),
        receiver_workers=_count(environment, "VAULT_RECEIVER_WORKERS"),
        portal_workers=_count(environment, "VAULT_PORTAL_WORKERS"),
    )
    return Plan(
        home=home,
        ports=ports,
        postgres=postgres,
        kafka=kafka,
        database_url=database_url,
        given_owner_url=sqlalchemy_url(given_owner, setting=_OWNER_SETTING) if given_owner else None,
        dagster_database_url=dagster_url,
        kafka_bootstrap=bootstrap,
        processes=tuple(processes),
        environment=_environment(home, environment, ports, database_url, dagster_url, bootstrap),
        supervision=Supervision(home, sockets),
    )


def process_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that commands and processes of this installation run with. Raises ConfigurationError if there is none."""
    check(home)
    if not exists(home):
        raise ConfigurationError(f"there is no installation in {home.path} yet: `./vault up` makes one")
    return settle(home, environment).environment


def libpq_url(database_url: str) -> str:
    """A SQLAlchemy address of PostgreSQL as psycopg itself reads it."""
    return re.sub(r"^postgresql\+\w+://", "postgresql://", database_url)


def _environment(
    home: Home, environment: Mapping[str, str], ports: Mapping[str, Port], database_url: str, dagster_url: str, bootstrap: str
) -> dict[str, str]:
    result = {name: value for name, value in environment.items() if name != _OWNER_SETTING}
    result.update(
        VAULT_HOME=str(home.path),
        VAULT_DATABASE_URL=database_url,
        VAULT_DAGSTER_DATABASE_URL=dagster_url,
        VAULT_KAFKA_BOOTSTRAP=bootstrap,
        VAULT_DAGSTER_CODE_PORT=str(ports["dagster_code"].number),
        DAGSTER_HOME=str(home.dagster),
        PYTHONPATH=os.pathsep.join([str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]),
        PYTHONUNBUFFERED="1",
        GX_ANALYTICS_ENABLED="false",
    )
    result.setdefault("VAULT_PUBLIC_URL", f"http://127.0.0.1:{ports['receiver'].number}")
    result.setdefault("VAULT_REPORTS_DIR", str(home.reports))
    result.setdefault("VAULT_SANDBOX_URL", f"http://127.0.0.1:{ports['sandbox'].number}")
    result.setdefault("VAULT_MASTER_KEY_FILE", str(home.master_key))
    return result


def _dagster_database_url(environment: Mapping[str, str], postgres: PostgresPlace | None, database_url: str) -> str:
    """Dagster keeps to a database of its own: its tables and ours have an alembic_version each."""
    given = environment.get("VAULT_DAGSTER_DATABASE_URL", "").strip()
    if given:
        return sqlalchemy_url(given).replace("postgresql+psycopg://", "postgresql+psycopg2://")
    if postgres is not None:
        return postgres.url("dagster", driver="psycopg2")
    parts = urlsplit(database_url)
    return urlunsplit(parts._replace(scheme="postgresql+psycopg2", path=f"{parts.path}_dagster"))


def _count(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "1")
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= _MOST_WORKERS:
        raise ConfigurationError(f"{name}={text!r} is not a number between 1 and {_MOST_WORKERS}")
    return int(text)
