"""Starts a real sandbox process for tests and tools: `with start_sandbox() as url: ...`."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

_ROOT = Path(__file__).parents[1]
_READY_SECONDS = 20


@contextmanager
def start_sandbox(*, seed: int = 1, extra: tuple[str, ...] = ()) -> Iterator[str]:
    """A sandbox on a free port, ready to answer; ended when the block is left. Yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", str(seed), *extra]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
        try:
            yield _ready(process, f"http://127.0.0.1:{port}", log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Returns once the sandbox at `url` answers; raises when it ends or does not come."""
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the sandbox ended with {process.returncode}")
        try:
            if httpx.get(f"{url}/healthz", timeout=1, verify=False).status_code == 200:  # noqa: S501 - plain HTTP
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the sandbox at {url} did not answer within {_READY_SECONDS} s")


def _ready(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> str:
    try:
        wait_until_ready(process, url)
    except RuntimeError as error:
        log.seek(0)
        raise RuntimeError(f"{error}: {log.read().decode(errors='replace')[-2000:]}") from error
    return url
