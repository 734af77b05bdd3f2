"""The broker's program: the jars that kafka.lock.toml names, fetched once with jgo and held to their sha256 before each start."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.bootstrap import system_store
from vault_core.errors import ConfigurationError, Unreachable, VaultError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")
_AT_ONCE = 8
_TRIES = 3
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Jar:
    """One file of the broker's program."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file's name, here and in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class KafkaLock:
    """What kafka.lock.toml says."""

    version: str
    jars: tuple[Jar, ...]


def read_lock(path: Path = LOCK_FILE) -> KafkaLock:
    """The lock in `path`. Raises ConfigurationError if it is damaged."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        jars = tuple(Jar(**jar) for jar in content["jars"])
        return KafkaLock(content["kafka"], jars)
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as a list of jars ({error}): take it from the repository again"
        ) from error


def ensure_jars(
    folder: Path,
    environment: Mapping[str, str],
    *,
    lock: KafkaLock | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """The broker's jars in `folder`, each checked against the lock; fetches those that are missing. Idempotent, calls take turns.

    `progress` is told (jars there, jars needed). VAULT_MAVEN_URL names another Maven repository than Maven Central. Raises
    ConfigurationError if a jar's sha256 is not the lock's (a fetched one is then not kept) and Unreachable if one cannot be had.
    """
    lock = lock or read_lock()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _turn(folder):
        missing = [jar for jar in lock.jars if not _is_there(folder / jar.filename, jar)]
        if missing:
            _fetch_all(
                missing,
                folder,
                environment,
                lambda done: progress and progress(len(lock.jars) - len(missing) + done, len(lock.jars)),
            )
    return [folder / jar.filename for jar in lock.jars]


def _is_there(path: Path, jar: Jar) -> bool:
    if not path.exists():
        return False
    _check(path, jar)
    return True


def _check(path: Path, jar: Jar) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise ConfigurationError(
            f"{path} is not the file that kafka.lock.toml names: its sha256 is {found}, not {jar.sha256}. It was damaged or "
            "replaced, and was not run. Delete it to have it fetched again; if it comes back the same, do not trust the source"
        )


def _fetch_all(jars: list[Jar], folder: Path, environment: Mapping[str, str], done: Callable[[int], object]) -> None:
    # Imported here: fetching happens once, checking at each start.
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    store = environment.get("REQUESTS_CA_BUNDLE") or environment.get("SSL_CERT_FILE") or system_store()
    if store:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", store)  # the only way to tell the HTTP client that jgo uses
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as cache, ThreadPoolExecutor(_AT_ONCE) as pool:
        context = MavenContext(
            resolver=PythonResolver(),
            repo_cache=Path(cache),
            local_repos=[],
            remote_repos={"maven": environment.get("VAULT_MAVEN_URL") or MAVEN_CENTRAL_URL},
            timeout=_TIMEOUT,
        )
        for number, _ in enumerate(pool.map(lambda jar: _fetch(context, jar, folder), jars), 1):
            done(number)


def _fetch(context: "MavenContext", jar: Jar, folder: Path) -> None:
    import requests

    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for attempt in range(1, _TRIES + 1):
        try:
            fetched = artifact.resolve()
            break
        except (requests.RequestException, RuntimeError) as error:
            shutil.rmtree(artifact.cached_path.parent, ignore_errors=True)  # a cut-off download would pass for the whole
            if attempt == _TRIES:
                raise _why_not(jar, error) from error
    _check(fetched, jar)
    fetched.replace(folder / jar.filename)


def _why_not(jar: Jar, error: Exception) -> VaultError:
    import requests

    what = f"{jar.filename} of Apache Kafka could not be fetched from the Maven repository"
    if isinstance(error, requests.exceptions.SSLError):
        return Unreachable(
            f"{what}: its TLS certificate was not trusted. Behind a company's proxy, put the company's authority into the "
            "system's certificate store, or name its file in REQUESTS_CA_BUNDLE"
        )
    return Unreachable(f"{what} ({str(error)[:200]}). Check the network and HTTPS_PROXY, or name a mirror in VAULT_MAVEN_URL")


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
