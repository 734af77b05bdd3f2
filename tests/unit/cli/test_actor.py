import getpass
import os
import pwd
from pathlib import Path

import pytest

from vault_cli.session import _login_number, actor


@pytest.fixture
def unset(tmp_path: Path) -> Path:
    """What the kernel says of a process that no login began."""
    file = tmp_path / "loginuid"
    file.write_text("4294967295")
    return file


def test_who_logged_in_acts_whatever_account_they_have_become(tmp_path: Path) -> None:
    kernels = tmp_path / "loginuid"
    kernels.write_text("1001\n")
    assert _login_number(kernels, 0, {}) == 1001
    assert _login_number(kernels, 0, {"SUDO_UID": "1002"}) == 1001
    assert _login_number(kernels, 1003, {}) == 1001


def test_behind_root_without_a_login_stands_who_called_sudo(unset: Path) -> None:
    assert _login_number(unset, 0, {"SUDO_UID": "1002"}) == 1002
    assert _login_number(unset, 0, {}) == 0


@pytest.mark.parametrize("environment", [{"SUDO_UID": "1002"}, {"LOGNAME": "otieno"}])
def test_nobody_else_is_somebody_else_by_a_variable(unset: Path, environment: dict[str, str]) -> None:
    assert _login_number(unset, 1003, environment) == 1003


@pytest.mark.parametrize("nonsense", ["", "-1", "root", "1 OR 1"])
def test_nonsense_in_the_environment_does_not_count(unset: Path, nonsense: str) -> None:
    assert _login_number(unset, 0, {"SUDO_UID": nonsense}) == 0


def test_a_system_without_such_a_file_says_who_runs_the_process(tmp_path: Path) -> None:
    assert _login_number(tmp_path / "none", 1003, {}) == 1003


def test_a_name_in_the_environment_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert getpass.getuser() == "somebody-else"
    assert actor() != "ops:somebody-else"


def test_a_user_without_a_name_acts_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setattr(os, "getuid", lambda: 1003)
    monkeypatch.setattr("vault_cli.session._LOGIN_NUMBER", Path("/nowhere"))
    assert actor() == "ops:uid 1003"
