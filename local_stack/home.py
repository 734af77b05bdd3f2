"""The `.vault` folder: everything one clone keeps between commands, and how we know that it is ours and whole."""

import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vault_core.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parent.parent
LAYOUT = 1  # of the folder; raised when an older `vault` could not read it
_DEMO = "demo"
_SOCKETS_PREFIX = "pv-"
_LONGEST_SOCKET_FOLDER = 70  # a socket's whole path has about 104 bytes; `/postgres/.s.PGSQL.5432.lock` needs 30 of them
_ROOM_NEEDED = 300 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Home:
    """Where things lie. Making one does no I/O. The demo's home lies in another, its `outer`, and shares its program files."""

    path: Path
    outer: "Home | None" = None

    @property
    def marker(self) -> Path:
        """Says that the folder is ours, of which layout, and for which place it was made."""
        return self.path / "vault.toml"

    @property
    def ports_file(self) -> Path:
        """The ports chosen for this clone."""
        return self.path / "ports.toml"

    @property
    def master_key(self) -> Path:
        """The key that seals credentials, phones and names (mode 0600)."""
        return self.path / "master.key"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "postgres"

    @property
    def kafka(self) -> Path:
        """The broker's settings and log segments."""
        return self.path / "kafka"

    @property
    def jars(self) -> Path:
        """The broker's program, as fetched and checked."""
        return (self.outer or self).path / "kafka-jars"

    @property
    def logs(self) -> Path:
        """One log file a process, rotated by the supervisor."""
        return self.path / "logs"

    @property
    def supervisor(self) -> Path:
        """The supervisor's settings and pid."""
        return self.path / "supervisor"

    @property
    def run(self) -> Path:
        """Signs of life of the stream workers."""
        return self.path / "run"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.path / "dagster"

    @property
    def reports(self) -> Path:
        """Report files, a folder a report and day."""
        return self.path / "reports"

    @property
    def sockets_note(self) -> Path:
        """Holds the path of the short folder outside, where sockets are: see `sockets_folder`."""
        return self.path / "sockets"

    def inner_folders(self) -> tuple[Path, ...]:
        """The folders that every home has."""
        return (self.kafka, self.logs, self.supervisor, self.run, self.dagster, self.reports)


def home_of(environment: Mapping[str, str]) -> Home:
    """The home of this clone: VAULT_HOME, else `.vault` in the repository."""
    path = Path(environment.get("VAULT_HOME") or REPOSITORY / ".vault").expanduser().absolute()
    outer = Home(path.parent)
    return Home(path, outer) if path.name == _DEMO and exists(outer) else Home(path)


def demo_home(home: Home) -> Home:
    """The home of the demo of `home`."""
    return Home(home.path / _DEMO, home)


def prepare(home: Home) -> None:
    """Makes the folder or checks the one that is there. Idempotent.

    Raises ConfigurationError if it is not ours, of a newer layout, damaged, or cannot be written, or if the disk is full.
    """
    if home.outer is not None:
        prepare(home.outer)
    try:
        if home.path.exists():
            check(home)
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not home.marker.exists():
            _write_marker(home)
        elif _made_for(home) != str(home.path):
            _settle_after_move(home)
        for folder in home.inner_folders():
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or home.path} cannot be written: {error.strerror}") from error
    free = shutil.disk_usage(home.path).free
    if free < _ROOM_NEEDED:
        raise ConfigurationError(
            f"only {free // 1024**2} MB are free on the disk of {home.path}; PostgreSQL and Kafka need at least "
            f"{_ROOM_NEEDED // 1024**2} MB to start safely: make room, or point VAULT_HOME at another disk"
        )


def exists(home: Home) -> bool:
    """Whether `vault up` has been here."""
    return home.marker.exists()


def check(home: Home) -> None:
    """Raises ConfigurationError if what lies at the home's path is not a whole home. A missing one is whole."""
    if not home.path.exists():
        return
    if not home.path.is_dir():
        raise ConfigurationError(f"{home.path} is a file; Payment Vault needs a folder there: move it away")
    if not home.marker.exists():
        if any(home.path.iterdir()):
            raise ConfigurationError(
                f"{home.path} holds files but no {home.marker.name}, so it was not made by `./vault` or is damaged. Nothing was "
                "touched. Restore it from a backup, or move it away and run `./vault up` for a new, empty one"
            )
        return
    layout = _marker(home).get("layout")
    if layout != LAYOUT:
        raise ConfigurationError(
            f"{home.marker} says layout {layout!r}; this version of Payment Vault knows layout {LAYOUT}: use the one that made it"
        )
    for folder in (*home.inner_folders(), home.postgres, home.jars):
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError(f"{folder} should be a folder and is not: {home.path} is damaged; restore it from a backup")


def sockets_folder(home: Home) -> Path:
    """The folder where PostgreSQL's and the supervisor's sockets are: short, outside the clone, private to us.

    A socket's path may have about 104 bytes, and a clone may lie deeper than that. Made once and noted in the home; made anew
    when the system has cleaned it away.
    """
    if home.sockets_note.exists():
        noted = Path(home.sockets_note.read_text(encoding="utf-8").strip())
        if _is_sockets_folder_of(home, noted):
            return noted
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=_SOCKETS_PREFIX, dir=base if len(base) < _LONGEST_SOCKET_FOLDER else "/tmp"))  # noqa: S108 - mkdtemp's name is unguessable
    (folder / "home").write_text(str(home.path), encoding="utf-8")
    home.sockets_note.write_text(f"{folder}\n", encoding="utf-8")
    return folder


def remove(home: Home) -> None:
    """Deletes the home, the demo's in it, and their sockets folders, and nothing else.

    Raises ConfigurationError if the folder is not one that `vault` made, or is reached through a symbolic link.
    """
    if not home.path.exists():
        return
    if home.path.is_symlink():
        raise ConfigurationError(
            f"{home.path} is a symbolic link: nothing was deleted; delete its target yourself if you mean to"
        )
    check(home)
    if not home.marker.exists():
        raise ConfigurationError(f"{home.path} has no {home.marker.name}: nothing was deleted")
    if exists(demo_home(home)):
        remove(demo_home(home))
    if home.sockets_note.exists():
        noted = Path(home.sockets_note.read_text(encoding="utf-8").strip())
        if _is_sockets_folder_of(home, noted):
            shutil.rmtree(noted)
    shutil.rmtree(home.path)


def _is_sockets_folder_of(home: Home, folder: Path) -> bool:
    try:
        owned = folder.stat(follow_symlinks=False).st_uid == os.geteuid()
        return (
            owned and folder.name.startswith(_SOCKETS_PREFIX) and (folder / "home").read_text(encoding="utf-8") == str(home.path)
        )
    except OSError:
        return False


def _settle_after_move(home: Home) -> None:
    # Moved or copied: the place it came from may still be running on the old ports and sockets.
    home.ports_file.unlink(missing_ok=True)
    home.sockets_note.unlink(missing_ok=True)
    _write_marker(home)


def _write_marker(home: Home) -> None:
    quoted = str(home.path).replace("\\", "\\\\").replace('"', '\\"')
    unfinished = home.marker.with_suffix(".new")
    unfinished.write_text(f'layout = {LAYOUT}\nmade_for = "{quoted}"\n', encoding="utf-8")
    unfinished.replace(home.marker)


def _made_for(home: Home) -> object:
    return _marker(home).get("made_for")


def _marker(home: Home) -> dict[str, object]:
    try:
        return tomllib.loads(home.marker.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{home.marker} is damaged ({error}): restore {home.path} from a backup") from error
