"""A stack of a benchmark's own: PostgreSQL with fsync on, Kafka, receiver, sandbox, and stream workers when they are wanted."""

import asyncio
import base64
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.parts.served import RECEIVER, broker, running, served
from local_stack.embedded_kafka import free_ports
from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from local_stack.parts import CONSUMER_GROUP
from local_stack.processes import STREAMS_APP, worker_command
from local_stack.topics import group_members
from local_stack.waiting import wait_for
from tests.sandbox_process import start_sandbox
from vault_core.database import APP_ROLE, open_owner_engine
from vault_core.schema import migrate
from vault_core.settings import Settings, read_settings

_WORKER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BenchStack:
    """Where everything is. `environment` is what its processes run with."""

    folder: Path
    environment: dict[str, str]
    port: int  # of the receiver
    sandbox_url: str

    def settings(self) -> Settings:
        """The settings of its processes, for what the benchmark itself does with the product's services."""
        return read_settings(self.environment)

    @contextmanager
    def worker(self, name: str = "worker-1", *, app: str = STREAMS_APP) -> Iterator[None]:
        """A stream worker of that name, in its group; ended with the block."""
        command = worker_command(self.folder / name, app)
        log_file = self.folder / f"{name}.log"
        with running(command, {**self.environment, "VAULT_WORKER_NAME": name}, log_file) as process:
            wait_for(lambda: self._has_joined(name) or process.poll() is not None, seconds=_WORKER_SECONDS, what=name)
            if process.poll() is not None:
                raise SystemExit(f"{name} did not start:\n{log_file.read_text(errors='replace')[-3000:]}")
            yield

    @asynccontextmanager
    async def working(self, name: str = "worker-1", *, app: str = STREAMS_APP) -> AsyncIterator[None]:
        """The same, where an event loop must not wait for it."""
        block = self.worker(name, app=app)
        await asyncio.to_thread(block.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(block.__exit__, None, None, None)

    def _has_joined(self, name: str) -> bool:
        return any(name in member for member in group_members(self.environment["VAULT_KAFKA_BOOTSTRAP"], CONSUMER_GROUP))


@contextmanager
def start_bench_stack(*, sandbox: bool = True, **settings: str) -> Iterator[BenchStack]:
    """The stack without workers, serving; ended and deleted with the block. `settings` are VAULT_... variables."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pvb")))
        sandbox_url = stack.enter_context(start_sandbox()) if sandbox else ""
        bootstrap = stack.enter_context(broker(folder / "kafka"))
        (folder / "pg").mkdir()
        database = stack.enter_context(temporary_postgres(folder / "pg", durable=True))
        ensure_databases(database)
        owner = open_owner_engine(database.url("vault"))
        migrate(owner, now=datetime.now(UTC))
        owner.dispose()
        (port,) = free_ports(1)
        environment = {
            "VAULT_DATABASE_URL": database.url("vault", user=APP_ROLE),
            "VAULT_KAFKA_BOOTSTRAP": bootstrap,
            "VAULT_MASTER_KEY": f"bench:{base64.b64encode(os.urandom(32)).decode()}",
            "VAULT_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "VAULT_TOP_UP_ALONE_UP_TO": str(10**9),  # wallets of benchmarks are filled without a second person
            **settings,
        }
        stack.enter_context(served(RECEIVER, environment, folder / "receiver.log", port=port))
        yield BenchStack(folder, environment, port, sandbox_url)
