"""What the portal alone can set, beside vault_core/settings.py."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vault_core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """Bounds of the portal. Each is the variable VAULT_PORTAL_<NAME>."""

    body_cap: int = 16 * 1024  # bytes; a request to pay is below 300
    page_most: int = 200  # rows in one answer
    database_connections: int = 8  # of one process


def read_portal_settings(environment: Mapping[str, str]) -> PortalSettings:
    """The settings in `environment`. Raises ConfigurationError naming the variable that is wrong."""
    chosen: dict[str, int] = {}
    for setting in fields(PortalSettings):
        name = f"VAULT_PORTAL_{setting.name.upper()}"
        given = environment.get(name)
        if given is None:
            continue
        if not (given.isascii() and given.isdigit()) or int(given) < 1:
            raise ConfigurationError(f"{name}={given!r} is not a whole number above zero")
        chosen[setting.name] = int(given)
    return PortalSettings(**chosen)
