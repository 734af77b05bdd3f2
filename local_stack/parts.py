"""The parts of a running installation as a person sees them: process, address, version, health."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from typing import Any

from local_stack import embedded_kafka, embedded_postgres, readiness
from local_stack.plan import Plan, libpq_url
from local_stack.readiness import Health, Probe
from local_stack.supervision import ProcessState
from vault_core.errors import Unreachable

CONSUMER_GROUP = "payment-vault"
STOPPED = "STOPPED"
GIVEN = "GIVEN"  # not ours: the user's own server


@dataclass(frozen=True, slots=True)
class Part:
    """One part: where it is, what it is, whether it serves. The keys of `vault status --json` are these."""

    name: str
    state: str  # the supervisor's word, or GIVEN
    healthy: bool
    detail: str
    address: str
    version: str
    pid: int | None
    restarts: int

    def to_json(self) -> dict[str, Any]:
        """The part as `vault status --json` prints it."""
        return asdict(self)


def probes_of(plan: Plan) -> dict[str, Probe]:
    """How each part is asked whether it serves, by the part's name."""
    ports = {name: port.number for name, port in plan.ports.items()}
    probes: dict[str, Probe] = {
        "postgres": lambda: readiness.database_health(libpq_url(plan.database_url)),
        "kafka": lambda: readiness.kafka_health(plan.kafka_bootstrap),
        "receiver": lambda: readiness.http_health(f"http://127.0.0.1:{ports['receiver']}/readyz"),
        "portal": lambda: readiness.http_health(f"http://127.0.0.1:{ports['portal']}/readyz"),
        "dagster-code": lambda: readiness.code_server_health(ports["dagster_code"]),
        "dagster-webserver": lambda: readiness.dagster_location_health(ports["dagster"]),
        "dagster-daemon": lambda: readiness.dagster_daemon_health(ports["dagster"]),
        "sandbox": lambda: readiness.http_health(f"http://127.0.0.1:{ports['sandbox']}/healthz"),
    }
    for process in plan.processes:
        if process.name.startswith("worker-"):
            probes[process.name] = _worker_probe(plan, process.name)
    return probes


def look(plan: Plan) -> list[Part]:
    """Every part as it is now. Asks all at once; takes a few seconds at most."""
    try:
        states = plan.supervision.states()
    except Unreachable:
        states = {}
    names = [*(name for name in ("postgres", "kafka") if _is_given(plan, name)), *(process.name for process in plan.processes)]
    if "sandbox" in names and states.get("sandbox") is None:
        names.remove("sandbox")
    probes = probes_of(plan)
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        healths = list(pool.map(lambda name: _health(plan, name, states.get(name), probes[name]), names))
    return [_part(plan, name, states.get(name), health) for name, health in zip(names, healths, strict=True)]


def unhealthy(parts: Sequence[Part]) -> list[Part]:
    """The parts that should serve and do not. A sandbox that nobody asked for may be stopped."""
    return [part for part in parts if not part.healthy and not (part.name == "sandbox" and part.state == STOPPED)]


def _is_given(plan: Plan, name: str) -> bool:
    return (plan.postgres if name == "postgres" else plan.kafka) is None


def _health(plan: Plan, name: str, state: ProcessState | None, probe: Probe) -> Health:
    if name in {"postgres", "kafka"} and _is_given(plan, name):
        return probe()
    if state is None or state.state == STOPPED:
        return Health(ok=False, detail="not running")
    if state.state not in {"RUNNING", "STARTING"}:
        return Health(ok=False, detail=state.description)
    return probe()


def _part(plan: Plan, name: str, state: ProcessState | None, health: Health) -> Part:
    given = name in {"postgres", "kafka"} and _is_given(plan, name)
    return Part(
        name=name,
        state=GIVEN if given else state.state if state else STOPPED,
        healthy=health.ok,
        detail=health.detail,
        address=address_of(plan, name),
        version=version_of(plan, name),
        pid=state.pid if state else None,
        restarts=state.restarts if state else 0,
    )


def address_of(plan: Plan, name: str) -> str:
    """Where the part is reached; empty for one that nobody calls. Shows no password."""
    if name == "postgres":
        return _without_password(libpq_url(plan.database_url))
    if name == "kafka":
        return plan.kafka_bootstrap
    named = {"dagster-webserver": "dagster", "dagster-code": "dagster_code"}
    port = named.get(name, name if name in {"receiver", "portal", "sandbox"} else None)
    if port is None:
        return ""
    scheme = "grpc" if name == "dagster-code" else "http"
    return f"{scheme}://127.0.0.1:{plan.ports[port].number}"


def version_of(plan: Plan, name: str) -> str:
    """The version of the program that the part runs, or empty if it is the user's own server."""
    if name in {"postgres", "kafka"}:
        module = embedded_postgres if name == "postgres" else embedded_kafka
        return "" if _is_given(plan, name) else module.version()
    granian = dict.fromkeys(("receiver", "portal", "sandbox"), "granian")
    package = ({"dagster-webserver": "dagster-webserver"} | granian).get(name)
    return package_version(package or ("faust-streaming" if name.startswith("worker-") else "dagster"))


def _worker_probe(plan: Plan, name: str) -> Probe:
    heartbeat = plan.home.run / f"{name}.heartbeat"

    def ask() -> Health:
        started_at = plan.supervision.states()[name].started_at()
        return readiness.worker_health(heartbeat, started_at, plan.kafka_bootstrap, CONSUMER_GROUP, name)

    return ask


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, separator, login = head.partition("://")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{tail}" if at else url
