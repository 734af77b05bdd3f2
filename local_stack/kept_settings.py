"""Settings that stay with an installation, whatever shell a command comes from: the demo's clock and pace.

What the environment says counts more.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from local_stack.home import Home
from vault_core.errors import ConfigurationError


def keep_settings(home: Home, settings: Mapping[str, str]) -> None:
    """Writes `settings` (names of variables and their values) beside the marker of a home that exists."""
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in sorted(settings.items())]
    _file(home).write_text("".join(lines), encoding="utf-8")


def with_kept_settings(home: Home, environment: Mapping[str, str]) -> Mapping[str, str]:
    """`environment`, and what is kept for what it does not name. Raises ConfigurationError if the file is damaged."""
    if not _file(home).exists():
        return environment
    try:
        kept = tomllib.loads(_file(home).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_file(home)} is damaged ({error}): delete it, and run the demo anew") from error
    return {**{name: str(value) for name, value in kept.items()}, **environment}


def _file(home: Home) -> Path:
    return home.path / "settings.toml"
