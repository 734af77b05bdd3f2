"""Fills `.venv` from requirements.lock. Runs on the system's Python, so it uses the standard library only.

`./vault` calls it when `.venv` does not hold what the lock says. Calls take turns; a `.venv` that an interrupted call left
behind is made anew. Packages come from where pip is set to take them (index, find-links, proxy, certificates), by uv where it
can be had, because it is several times faster, else by pip. Every file is checked against the hashes in the lock.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

STAMP = "filled-from.lock"
CONFIGURATION_EXIT = 3
UNREACHABLE_EXIT = 5
_SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
}
_TLS_SIGNS = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|UnknownIssuer|invalid peer certificate|SSLError", re.IGNORECASE
)
_NETWORK_SIGNS = re.compile(
    r"Name or service not known|Temporary failure in name resolution|dns error|Connection refused|Network is unreachable"
    r"|timed out|ConnectTimeout|Failed to fetch|error sending request|NewConnectionError|No matching distribution",
    re.IGNORECASE,
)


class InstallFailed(Exception):
    """An installer ended with an error; `output` is what it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


def main(repo: Path) -> int:
    """Makes `.venv` in `repo` hold what requirements.lock says. Returns the exit code for the shell."""
    try:
        with _turn(repo):
            _fill(repo)
    except InstallFailed as failure:
        message, code = explain(failure.output)
    except OSError as error:
        message, code = f"cannot write {error.filename or repo}: {error.strerror}", CONFIGURATION_EXIT
    else:
        return 0
    _say(message)
    return code


def explain(output: str) -> tuple[str, int]:
    """What to tell a person about an installer's failing output, and the exit code it deserves."""
    last = "\n".join(output.strip().splitlines()[-12:])
    if _TLS_SIGNS.search(output):
        advice = (
            "the package index's TLS certificate was not trusted. Behind a company's proxy, put the company's authority into the "
            "system's certificate store, or name its file: SSL_CERT_FILE=/path/to/ca.pem PIP_CERT=/path/to/ca.pem ./vault ..."
        )
        return f"{last}\nvault: {advice}", UNREACHABLE_EXIT
    if "No space left" in output:
        return f"{last}\nvault: the disk is full: .venv needs about 1.2 GB in the clone's folder", CONFIGURATION_EXIT
    if re.search(r"hash(es)? (mismatch|do(es)? not match)|DO NOT MATCH THE HASHES", output, re.IGNORECASE):
        advice = "a package is not the one that requirements.lock names (its sha256 differs). Nothing was installed from it"
        return f"{last}\nvault: {advice}: check the index or mirror that pip is set to use", CONFIGURATION_EXIT
    if _NETWORK_SIGNS.search(output):
        advice = "the package index could not be reached or lacks a package. Check the network, HTTPS_PROXY and PIP_INDEX_URL"
        return f"{last}\nvault: {advice}, then run this again", UNREACHABLE_EXIT
    return f"{last}\nvault: the packages could not be installed; the lines above are the installer's", CONFIGURATION_EXIT


def locked_block(lock: str, name: str) -> str:
    """The lines of `lock` (requirements format) that pin `name` with its hashes. Raises LookupError if it is not there."""
    match = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*", lock, re.MULTILINE)
    if match is None:
        raise LookupError(name)
    return match.group(0) + "\n"


@contextmanager
def _turn(repo: Path) -> Iterator[None]:
    """Waits until no other call is at work on `repo`. The lock ends with the process that holds it, however it ends."""
    descriptor = os.open(repo, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another ./vault is installing into this clone: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fill(repo: Path) -> None:
    lock_file, venv = repo / "requirements.lock", repo / ".venv"
    lock = lock_file.read_bytes()
    stamp, python = venv / STAMP, venv / "bin" / "python"
    if not (stamp.exists() and _runs(python)):
        _say(f"making .venv with Python {sys.version.split()[0]} (once; a minute or two)")
        _make_venv(venv)
    elif stamp.read_bytes() == lock:
        return  # another call did the work while this one waited
    else:
        _say("requirements.lock has changed: bringing .venv up to date")
        stamp.unlink()
    _install(python, lock_file)
    unfinished = venv / f"{STAMP}.new"
    unfinished.write_bytes(lock)
    unfinished.replace(stamp)


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _make_venv(venv: Path) -> None:
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)
    _run([sys.executable, "-I", "-m", "venv", str(venv)], os.environ)


def _install(python: Path, lock_file: Path) -> None:
    settings = _pip_settings(python)
    environment = installer_environment(os.environ, settings, system_store())
    if not _have_uv(python, lock_file, environment):
        _say("uv cannot be had: installing with pip, which takes longer")
        _pip(python, ["-r", str(lock_file)], environment)
        return
    try:
        _run(
            [
                str(python),
                "-m",
                "uv",
                "pip",
                "sync",
                "--quiet",
                "--require-hashes",
                "--system-certs",
                "--python",
                str(python),
                str(lock_file),
            ],
            environment,
        )
    except InstallFailed as failure:
        _say("uv did not manage; trying pip. uv said:\n" + "\n".join(failure.output.strip().splitlines()[-4:]))
        _pip(python, ["-r", str(lock_file)], environment)


def _have_uv(python: Path, lock_file: Path, environment: Mapping[str, str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder) / "uv.lock"
        only_uv.write_text(locked_block(lock_file.read_text("utf-8"), "uv"), "utf-8")
        try:
            _pip(python, ["-r", str(only_uv)], environment)
        except InstallFailed as failure:
            if _TLS_SIGNS.search(failure.output) or "No space left" in failure.output:
                raise
            return False
    return True


def _pip(python: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    # Without dependencies: the lock names every package already, and old pips refuse `name[extra]` in hash mode.
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    _run([*command, *arguments], environment)


def _pip_settings(python: Path) -> dict[str, str]:
    """What the person's pip.conf and PIP_... variables say, by option name; a variable wins over a file."""
    listing = subprocess.run([python, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for line in listing.splitlines():
        key, separator, value = line.partition("=")
        section, _, option = key.partition(".")
        if separator and section in {"global", "install", ":env:"} and (section == ":env:" or option not in found):
            found[option] = " ".join(value.strip().strip("'\"").replace("\\n", " ").split())
    return found


def installer_environment(environment: Mapping[str, str], pip_settings: Mapping[str, str], store: str | None) -> dict[str, str]:
    """`environment` with what makes uv do as pip is set to, and the certificate store for both. What is set stays."""
    result = dict(environment)
    certificates = environment.get("SSL_CERT_FILE") or pip_settings.get("cert") or store
    if certificates:
        result.setdefault("SSL_CERT_FILE", certificates)
        if "cert" not in pip_settings:
            result["PIP_CERT"] = certificates
    for option, variable in _PIP_TO_UV.items():
        if pip_settings.get(option):
            result.setdefault(variable, pip_settings[option])
    result.pop("VIRTUAL_ENV", None)
    return result


def system_store() -> str | None:
    """The file of the system's certificate store, where there is one."""
    return next((path for path in _SYSTEM_STORES if Path(path).is_file()), None)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environment), text=True
    )
    if done.returncode != 0:
        raise InstallFailed(done.stdout)


def _say(message: str) -> None:
    sys.stderr.write(f"vault: {message}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
