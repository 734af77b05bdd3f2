"""The master key of one installation: made once, with the first database, and never again."""

import os
from collections.abc import Mapping

from local_stack.home import Home
from vault_core.errors import ConfigurationError
from vault_core.secrets import new_master_key, parse_master_key, read_master_key_file


def key_is_given(environment: Mapping[str, str]) -> bool:
    """Whether the user keeps the key (VAULT_MASTER_KEY or VAULT_MASTER_KEY_FILE) instead of us."""
    return bool(environment.get("VAULT_MASTER_KEY") or environment.get("VAULT_MASTER_KEY_FILE"))


def ensure_master_key(home: Home, environment: Mapping[str, str], *, sealed_data_exists: bool) -> None:
    """Makes `.vault/master.key` (mode 0600) for an installation that has no sealed data yet; checks the one that is there.

    Raises ConfigurationError when the key is missing though there is data sealed with it: a new key would not open it.
    """
    if environment.get("VAULT_MASTER_KEY"):
        parse_master_key(environment["VAULT_MASTER_KEY"])
        return
    if key_is_given(environment) or home.master_key.exists():
        path = home.master_key.__class__(environment.get("VAULT_MASTER_KEY_FILE") or home.master_key)
        read_master_key_file(path)
        return
    if sealed_data_exists:
        raise ConfigurationError(
            f"the master key {home.master_key} is missing, but the database is there: its credentials, phones and names are "
            "sealed with that key. A new one was not made: it could open none of them. Restore the file from your backup, set "
            "VAULT_MASTER_KEY, or, if the data may go, `./vault reset`"
        )
    unfinished = home.master_key.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(new_master_key() + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(home.master_key)
