"""ASGI servers and brokers of a benchmark, each a process of its own, run with the flags of the stack."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from local_stack.embedded_kafka import free_ports, temporary_kafka
from local_stack.home import REPOSITORY, Home
from local_stack.topics import ensure_topics

RECEIVER = "callback_receiver.app:application"


@contextmanager
def served(app: str, environment: Mapping[str, str], log_file: Path, *, port: int | None = None) -> Iterator[int]:
    """`app` on `port` (None: a free one), answering. Yields the port."""
    port = port or free_ports(1)[0]
    command = [
        sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws", "--no-access-log",
        "--host", "127.0.0.1", "--port", str(port), app,
    ]  # fmt: skip
    with running(command, environment, log_file) as process:
        _wait_for_answer(port, process, log_file)
        yield port


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log_file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`command` with `environment` beside ours, its output in `log_file`; ended with the block."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A Kafka broker with all topics, its data in `folder`. Yields its address."""
    folder.mkdir()
    with temporary_kafka(folder, Home(REPOSITORY / ".vault").jars, os.environ) as place:
        ensure_topics(place.bootstrap)
        yield place.bootstrap


def _wait_for_answer(port: int, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"the server did not start:\n{log_file.read_text(errors='replace')[-2000:]}")
