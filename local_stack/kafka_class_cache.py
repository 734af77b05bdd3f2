"""The broker's classes, read and linked once into a cache of the JVM's (JEP 514), so that a broker starts with half the work.

It matters when a killed broker must be back in seconds. Making it takes a trial run of a broker and some ten seconds of
processor time, so it is made beside a running stack, at the lowest priority; without it the broker only starts more slowly. The
JVM itself checks that the cache fits its version and the jars, and goes without when it does not.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from local_stack.embedded_kafka import KafkaPlace, class_cache_file, command, free_ports, make_ready
from local_stack.home import REPOSITORY
from local_stack.topics import broker_answers
from local_stack.waiting import wait_for

_LOWEST_PRIORITY = 19
_START_SECONDS = 120.0
_DUMP_SECONDS = 300.0


def make_in_background(jars: Path, environment: Mapping[str, str]) -> None:
    """Starts making the cache for the broker in `jars` if it is missing, and returns at once."""
    if class_cache_file(jars).exists() or not jars.exists():
        return
    paths = os.pathsep.join([str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])])
    subprocess.Popen(
        [sys.executable, "-m", __name__, str(jars)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        env={**environment, "PYTHONPATH": paths},
    )  # fmt: skip


def make(jars: Path) -> None:
    """Makes the cache for the broker in `jars`. Does nothing if it is there or another call is at it."""
    cache = class_cache_file(jars)
    with cache.with_suffix(".lock").open("w") as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if cache.exists():
            return
        with tempfile.TemporaryDirectory(prefix="pvc") as folder:
            made = Path(folder) / "made.aot"
            _trial_run(KafkaPlace(Path(folder) / "kafka", jars, *free_ports(2)), made)
            unfinished = cache.with_suffix(".new")
            unfinished.write_bytes(made.read_bytes())
            unfinished.replace(cache)


def _trial_run(place: KafkaPlace, made: Path) -> None:
    """Runs a broker until it answers, and ends it cleanly: on its way out the JVM writes what it has loaded."""
    make_ready(place)
    java, *rest = [word for word in command(place) if not word.startswith("-XX:AOTCache=")]
    broker = subprocess.Popen([java, f"-XX:AOTCacheOutput={made}", *rest], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: broker_answers(place.bootstrap) or broker.poll() is not None, seconds=_START_SECONDS, what="the trial run"
        )
        broker.terminate()
        broker.wait(_DUMP_SECONDS)
    finally:
        broker.kill()
        broker.wait()


if __name__ == "__main__":
    os.nice(_LOWEST_PRIORITY)
    make(Path(sys.argv[1]))
