"""The processes of one installation: what each runs, as whom, and what must be there before it starts."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from local_stack import embedded_kafka, embedded_postgres
from local_stack.embedded_kafka import KafkaPlace
from local_stack.embedded_postgres import PostgresPlace
from local_stack.home import Home
from local_stack.ports import Port
from local_stack.server_account import Account

STREAMS_APP = "vault_pipelines.streams.app"
DEFINITIONS = "vault_pipelines.definitions"
RECEIVER_APP = "callback_receiver.app:application"
PORTAL_APP = "partner_portal.app:application"
# Of the environment, what only our own programs may have.
_SECRETS = {"VAULT_MASTER_KEY": ""}


@dataclass(frozen=True, slots=True)
class Process:
    """One supervised process. `needs` are steps of `vault up` ("schema", "topics"); `order` is the order of starting."""

    name: str
    command: list[str]
    order: int
    needs: frozenset[str] = frozenset()
    environment: dict[str, str] = field(default_factory=dict)
    account: Account | None = None
    ports: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    whole_group: bool = True  # whether its children end with it
    only_when_asked: bool = False


def processes_of(
    home: Home,
    ports: dict[str, Port],
    postgres: PostgresPlace | None,
    kafka: KafkaPlace | None,
    *,
    workers: int,
    receiver_workers: int,
    portal_workers: int,
) -> list[Process]:
    """Every process of the stack. No PostgreSQL or no Kafka when they are given by the user."""
    found = [
        _server("receiver", RECEIVER_APP, ports["receiver"], receiver_workers),
        _server("portal", PORTAL_APP, ports["portal"], portal_workers),
        *_dagster(home, ports),
        _sandbox(ports["sandbox"]),
    ]
    found += [_worker(home, number) for number in range(1, workers + 1)]
    if postgres is not None:
        found.append(
            Process(
                "postgres",
                embedded_postgres.command(postgres),
                order=1,
                account=postgres.account,
                environment=_SECRETS,
                stop_signal="INT",
                stop_seconds=30,
                whole_group=False,
            )
        )
    if kafka is not None:
        found.append(
            Process(
                "kafka",
                embedded_kafka.command(kafka),
                order=2,
                environment=_SECRETS,
                ports=("kafka", "kafka_controller"),
                stop_seconds=20,
            )
        )
    return sorted(found, key=lambda process: process.order)


def worker_name(number: int) -> str:
    """The stable name of a stream worker: Kafka keeps its partitions for it while it is restarted."""
    return f"worker-{number}"


def _server(name: str, application: str, port: Port, workers: int) -> Process:
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port.number)]
    command += [
        "--workers",
        str(workers),
        "--loop",
        "uvloop",
        "--no-ws",
        "--no-access-log",
        "--respawn-failed-workers",
        application,
    ]
    return Process(name, command, order=3, needs=frozenset({"schema"}), ports=(port.name,))


def worker_command(data: Path, app: str = STREAMS_APP) -> list[str]:
    """The command line of a stream worker that runs `app`, with Faust's own files in `data`.

    On uvloop: on asyncio's own loop the same work takes a quarter more processor time.
    """
    faust = [sys.executable, "-m", "faust", "--loop", "uvloop", "--datadir", str(data), "-A", app]
    return [*faust, "worker", "-l", "info", "--without-web"]


def _worker(home: Home, number: int) -> Process:
    name = worker_name(number)
    environment = {"VAULT_WORKER_NAME": name}
    return Process(name, worker_command(home.run / name), order=4, needs=frozenset({"schema", "topics"}), environment=environment)


def _dagster(home: Home, ports: dict[str, Port]) -> list[Process]:
    code = [sys.executable, "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(ports["dagster_code"].number)]
    code += ["-m", DEFINITIONS, "--location-name", "payment_vault"]
    workspace = ["-w", str(home.dagster / "workspace.yaml")]
    web = [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(ports["dagster"].number), *workspace]
    daemon = [sys.executable, "-m", "dagster._daemon", "run", *workspace]
    needs = frozenset({"schema"})
    return [
        Process("dagster-code", code, order=5, needs=needs, ports=("dagster_code",)),
        Process("dagster-webserver", web, order=6, needs=needs, ports=("dagster",)),
        Process("dagster-daemon", daemon, order=7, needs=needs),
    ]


def _sandbox(port: Port) -> Process:
    command = [sys.executable, "-m", "sandbox", "--port", str(port.number)]  # SANDBOX_SEED chooses its chance
    return Process("sandbox", command, order=8, environment=_SECRETS, ports=("sandbox",), only_when_asked=True)
