"""What `vault demo` says before it touches a running Mifos X."""

import pytest
from typer.testing import CliRunner

from vault_cli.demo_live import PASSWORD_VARIABLE, live_server
from vault_cli.main import app

URL = "https://core.example/fineract-provider/api/v1"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--mifos", URL], "--mifos-is-a-test-server"),
        (["--mifos", "core.example", "--mifos-is-a-test-server"], "is no address"),
        (["--mifos", URL, "--mifos-is-a-test-server", "--mifos-loans", "1"], "must lie between"),
        (["--mifos", URL, "--mifos-is-a-test-server"], "no password of 'mifos'"),
        (["--mifos", URL, "--mifos-is-a-test-server", "--mifos-password-file", "/nowhere"], "cannot be read"),
        (["--mifos-restart", "true"], "--mifos is missing"),
    ],
)
def test_a_server_is_refused_unless_all_is_said(monkeypatch, options, told) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    done = CliRunner().invoke(app, ["demo", *options])
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


def test_what_will_be_made_is_told_before_it_is_allowed() -> None:
    told = " ".join(CliRunner().invoke(app, ["demo", "--mifos", URL]).output.split())
    assert "215 clients with loans, 200 of them approved" in told
    assert URL in told


def test_without_a_server_there_is_none() -> None:
    assert live_server("", "mifos", "default", None, 200, "", for_tests=False) is None


def test_the_password_comes_from_the_file_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
    file = tmp_path / "password"
    file.write_text("of the file\n")
    server = live_server(f"{URL}/", "ops", "default", file, 200, "", for_tests=True)
    assert server is not None
    assert (server.url, server.password, server.restart) == (URL, "of the file", None)
    named = live_server(URL, "ops", "default", None, 200, "restart it", for_tests=True)
    assert named is not None
    assert (named.password, named.restart) == ("of the environment", "restart it")
