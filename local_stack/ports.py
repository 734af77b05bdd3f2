"""The TCP ports of one clone: free ones are chosen once and kept, so that addresses given to partners stay the same."""

import random
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from local_stack.home import Home
from vault_core.errors import ConfigurationError

NAMES = ("receiver", "portal", "dagster", "dagster_code", "kafka", "kafka_controller", "sandbox")
# Below the range that systems take outgoing ports from (32768 up on Linux, 49152 up on macOS), above the well-known services.
_RANGE = range(20_000, 32_000)
_HIGHEST = 65_535


@dataclass(frozen=True, slots=True)
class Port:
    """A port of 127.0.0.1, and who chose it (a variable or a file)."""

    name: str
    number: int
    set_by: str


def settle_ports(home: Home, environment: Mapping[str, str], chance: random.Random) -> dict[str, Port]:
    """Every port by name: VAULT_PORT_<NAME> where set, else the one kept in the home, else a free one, kept from now on.

    Raises ConfigurationError naming the variable or file that holds something else than a port.
    """
    kept = _read_kept(home)
    ports: dict[str, Port] = {}
    for name in NAMES:
        variable = f"VAULT_PORT_{name.upper()}"
        if environment.get(variable):
            ports[name] = Port(name, _port_number(environment[variable], variable), variable)
        else:
            if name not in kept:
                kept[name] = _choose_free(set(kept.values()), chance)
            ports[name] = Port(name, kept[name], str(home.ports_file))
    _keep(home, kept)
    _refuse_doubles(ports.values())
    return ports


def require_free(ports: Iterable[Port]) -> None:
    """Raises ConfigurationError for the first port that another program listens on."""
    for port in ports:
        if not _is_free(port.number):
            variable = f"VAULT_PORT_{port.name.upper()}"
            raise ConfigurationError(
                f"port {port.number} ({port.name}, set by {port.set_by}) is taken by another program. Stop that program, "
                f"or choose another port: set {variable}, or change {port.name} in ports.toml in the .vault folder"
            )


def _choose_free(taken: set[int], chance: random.Random) -> int:
    for _ in range(200):
        number = chance.choice(_RANGE)
        if number not in taken and _is_free(number):
            return number
    raise ConfigurationError(f"no free port was found between {_RANGE.start} and {_RANGE.stop}: set VAULT_PORT_<NAME> yourself")


def _is_free(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the remains of closed connections do not count as taken
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True


def _refuse_doubles(ports: Iterable[Port]) -> None:
    seen: dict[int, Port] = {}
    for port in ports:
        if port.number in seen:
            other = seen[port.number]
            raise ConfigurationError(
                f"port {port.number} is given to both {other.name} (by {other.set_by}) and {port.name} (by {port.set_by})"
            )
        seen[port.number] = port


def _port_number(value: object, where: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if not 0 < number <= _HIGHEST:
        raise ConfigurationError(f"{where}: {value!r} is not a port number between 1 and {_HIGHEST}")
    return number


def _read_kept(home: Home) -> dict[str, int]:
    try:
        text = home.ports_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{home.ports_file} is damaged ({error}): mend it, or delete it to have ports chosen anew"
        ) from error
    return {name: _port_number(value, f"{home.ports_file}: {name}") for name, value in values.items() if name in NAMES}


def _keep(home: Home, kept: Mapping[str, int]) -> None:
    lines = "".join(f"{name} = {number}\n" for name, number in kept.items())
    unfinished = home.ports_file.with_suffix(".new")
    unfinished.write_text(lines, encoding="utf-8")
    unfinished.replace(home.ports_file)
