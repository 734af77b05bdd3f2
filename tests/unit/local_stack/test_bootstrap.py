import os
import subprocess
from pathlib import Path

import pytest

from local_stack.bootstrap import CONFIGURATION_EXIT, UNREACHABLE_EXIT, explain, installer_environment, locked_block
from local_stack.home import REPOSITORY

LOCK = """\
orjson==3.13.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via payment-vault
uv==0.13.9 \\
    --hash=sha256:cc
    # via payment-vault
uvicorn==0.54.0 \\
    --hash=sha256:dd
"""


def test_one_package_is_cut_out_of_the_lock_with_all_its_hashes_and_no_other() -> None:
    assert locked_block(LOCK, "uv") == "uv==0.13.9 \\\n    --hash=sha256:cc\n"
    assert locked_block(LOCK, "orjson").count("--hash") == 2
    with pytest.raises(LookupError):
        locked_block(LOCK, "pip")


def test_the_lock_of_this_repository_pins_the_installer_and_names_no_index() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert "--hash=sha256:" in locked_block(lock, "uv")
    assert "://" not in "\n".join(line for line in lock.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize(
    ("output", "says", "code"),
    [
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]",
            "TLS certificate was not trusted",
            UNREACHABLE_EXIT,
        ),
        ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE", UNREACHABLE_EXIT),
        ("OSError: [Errno 28] No space left on device", "disk is full", CONFIGURATION_EXIT),
        ("error: Failed to fetch: dns error", "could not be reached", UNREACHABLE_EXIT),
        ("Hash mismatch for `orjson==3.13.0`", "sha256 differs", CONFIGURATION_EXIT),
        ("segmentation fault", "could not be installed", CONFIGURATION_EXIT),
    ],
)
def test_what_went_wrong_is_said_with_what_to_do(output, says, code) -> None:
    message, found = explain(output)
    assert says in message
    assert found == code


def test_the_system_store_is_passed_on_to_both_installers_when_nothing_is_set() -> None:
    environment = installer_environment({}, {}, "/etc/store.pem")
    assert (environment["SSL_CERT_FILE"], environment["PIP_CERT"]) == ("/etc/store.pem", "/etc/store.pem")


def test_a_certificate_that_pip_is_set_to_use_goes_to_uv_too_and_stays_pips() -> None:
    environment = installer_environment({}, {"cert": "/company.pem"}, "/etc/store.pem")
    assert environment["SSL_CERT_FILE"] == "/company.pem"
    assert "PIP_CERT" not in environment


def test_the_index_that_pip_is_set_to_use_goes_to_uv_but_never_over_uvs_own() -> None:
    settings = {"index-url": "http://mirror/simple", "find-links": "/wheels"}
    environment = installer_environment({"UV_FIND_LINKS": "/mine"}, settings, None)
    assert environment["UV_DEFAULT_INDEX"] == "http://mirror/simple"
    assert environment["UV_FIND_LINKS"] == "/mine"


def _bare_clone(folder: Path) -> Path:
    script = folder / "vault"
    script.write_bytes((REPOSITORY / "vault").read_bytes())
    script.chmod(0o755)
    return script


def test_without_any_python_the_script_says_what_to_install(tmp_path) -> None:
    script = _bare_clone(tmp_path)
    done = subprocess.run(
        ["/bin/sh", str(script), "up"], check=False, capture_output=True, text=True, env={"PATH": "/nonexistent"}, cwd="/"
    )
    assert done.returncode == 3
    assert "needs Python 3.11 or newer" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("says", "message"),
    [("it is Python 3.9, older than 3.11", "older than 3.11"), ("it lacks the module ensurepip", "lacks the module ensurepip")],
)
def test_a_python_that_does_not_fit_is_named_with_its_reason(tmp_path, says, message) -> None:
    script = _bare_clone(tmp_path)
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho '{says}'\n")
    fake.chmod(0o755)
    done = subprocess.run(["/bin/sh", str(script)], check=False, capture_output=True, text=True, env={"PATH": str(fake.parent)})
    assert done.returncode == 3
    assert f"{fake}: " in done.stderr
    assert message in done.stderr


def test_a_python_that_only_pretends_to_be_there_is_passed_over(tmp_path) -> None:
    script = _bare_clone(tmp_path)
    broken = tmp_path / "bin" / "python3.11"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    broken.chmod(0o755)
    done = subprocess.run(["/bin/sh", str(script)], check=False, capture_output=True, text=True, env={"PATH": str(broken.parent)})
    assert done.returncode == 3


def test_the_script_works_from_any_folder_and_through_a_link(tmp_path) -> None:
    link = tmp_path / "vault"
    link.symlink_to(REPOSITORY / "vault")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run([str(link), "--help"], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0
    assert "status" in done.stdout
