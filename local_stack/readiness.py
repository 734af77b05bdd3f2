"""Whether a part of the stack serves: asked of the part itself, as its users would."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg

from local_stack.topics import broker_answers, group_members

_TIMEOUT = 3.0
_HEARTBEAT_SECONDS = 4.0
_CLOCK_SLACK = 1.0  # a process's start is known to the second only; none beats that soon after it
_DAGSTER_QUESTION = """{
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  workspaceOrError { __typename ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } }
}"""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a part serves, and if not, what it said."""

    ok: bool
    detail: str = ""


Probe = Callable[[], Health]


def database_health(libpq_url: str) -> Health:
    """Whether PostgreSQL takes a query."""
    try:
        with psycopg.connect(libpq_url, connect_timeout=int(_TIMEOUT)) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return Health(ok=False, detail=str(error).strip().splitlines()[0])
    return Health(ok=True)


def kafka_health(bootstrap: str) -> Health:
    """Whether a broker answers."""
    return Health(ok=True) if broker_answers(bootstrap) else Health(ok=False, detail=f"no broker answers at {bootstrap}")


def worker_health(heartbeat: Path, started_at: float, bootstrap: str, group: str, worker: str) -> Health:
    """Whether the worker's loop turns (it touches its heartbeat file each second) and it is in its consumer group.

    The group alone does not tell: Kafka keeps a dead static member for a while. A static member's id begins with its own name.
    """
    last = heartbeat.stat().st_mtime if heartbeat.exists() else 0.0
    if last <= started_at + _CLOCK_SLACK:
        return Health(ok=False, detail="no sign of life yet")
    age = time.time() - last
    if age > _HEARTBEAT_SECONDS:
        return Health(ok=False, detail=f"no sign of life for {age:.0f} s")
    members = group_members(bootstrap, group)
    if any(member.startswith(f"{worker}-") for member in members):
        return Health(ok=True)
    return Health(ok=False, detail=f"not yet in the consumer group {group}")


def http_health(url: str) -> Health:
    """Whether a GET of `url` is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - our own process's address
            return Health(ok=True) if answer.status < 300 else Health(ok=False, detail=f"{url} answered {answer.status}")  # noqa: PLR2004
    except urllib.error.HTTPError as error:
        return Health(ok=False, detail=f"{url} answered {error.code}: {error.read(200).decode(errors='replace').strip()}")
    except OSError as error:
        return Health(ok=False, detail=f"{url} does not answer: {error}")


def code_server_health(port: int) -> Health:
    """Whether Dagster's code server takes gRPC connections: it does once its definitions are loaded."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    try:
        grpc.channel_ready_future(channel).result(timeout=1.0)
    except grpc.FutureTimeoutError:
        return Health(ok=False, detail=f"no answer on port {port}")
    finally:
        channel.close()
    return Health(ok=True)


def dagster_location_health(port: int) -> Health:
    """Whether the webserver has loaded the code location without an error."""
    answer = _ask_dagster(port)
    if isinstance(answer, Health):
        return answer
    entries = answer["workspaceOrError"].get("locationEntries", [])
    for entry in entries:
        loaded = entry.get("locationOrLoadError") or {}
        if loaded.get("__typename") == "PythonError":
            return Health(ok=False, detail=f"code location {entry['name']}: {loaded['message'].strip()[:300]}")
    if not entries or any(entry["loadStatus"] != "LOADED" for entry in entries):
        return Health(ok=False, detail="the code location is still loading")
    return Health(ok=True)


def dagster_daemon_health(port: int) -> Health:
    """Whether every daemon that Dagster needs has reported lately, as the webserver sees it."""
    answer = _ask_dagster(port)
    if isinstance(answer, Health):
        return answer
    silent = [
        status["daemonType"]
        for status in answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        if status["required"] and not status["healthy"]
    ]
    return Health(ok=not silent, detail=f"no heartbeat yet from {', '.join(silent)}" if silent else "")


def _ask_dagster(port: int) -> dict[str, Any] | Health:
    body = json.dumps({"query": _DAGSTER_QUESTION}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own process's address
            found = json.load(answer)
    except (OSError, ValueError) as error:
        return Health(ok=False, detail=f"Dagster's webserver does not answer: {error}")
    if not found.get("data"):
        return Health(ok=False, detail=f"Dagster's webserver answered: {str(found.get('errors'))[:300]}")
    data: dict[str, Any] = found["data"]
    return data
