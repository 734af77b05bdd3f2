"""A real worker process between a real broker and a real database."""

import asyncio
import base64
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from local_stack.processes import worker_command

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class WorkerProcess:
    def __init__(self, environment: dict[str, str], log_file: Path) -> None:
        self.environment = environment
        self.log_file = log_file
        self.start()

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                worker_command(self.log_file.parent / "faust"),
                env=self.environment,
                stdout=log,
                stderr=log,
                cwd=self.log_file.parent,
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


@pytest.fixture
async def worker(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "VAULT_MASTER_KEY": f"test:{KEY}",
        "VAULT_WORKER_NAME": f"worker-{tmp_path.name}",
        "VAULT_HOME": str(tmp_path),
    }
    process = WorkerProcess(environment, tmp_path / "worker.log")
    yield process
    process.kill()


async def until(condition: Callable[[], Awaitable[bool]], worker: WorkerProcess, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, worker.log()[-4000:]
        await asyncio.sleep(0.1)
