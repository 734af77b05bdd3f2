from pathlib import Path

import pytest

from local_stack.home import Home
from local_stack.kept_settings import keep_settings, with_kept_settings
from vault_core.errors import ConfigurationError


def test_what_is_kept_counts_where_the_environment_says_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert with_kept_settings(home, {"A": "1"}) == {"A": "1"}
    keep_settings(home, {"VAULT_CLOCK_OFFSET_SECONDS": "-3600.5", "VAULT_POLL_EVERY": "15"})
    given = {"VAULT_POLL_EVERY": "20", "A": "1"}
    assert with_kept_settings(home, given) == {"VAULT_CLOCK_OFFSET_SECONDS": "-3600.5", "VAULT_POLL_EVERY": "20", "A": "1"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("VAULT_POLL_EVERY = ")
    with pytest.raises(ConfigurationError, match=r"settings\.toml"):
        with_kept_settings(Home(tmp_path), {})
