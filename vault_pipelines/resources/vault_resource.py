"""The composition root of a Dagster process: settings from the environment, opened for one piece of work at a time."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import dagster as dg
import uvloop
from sqlalchemy import Connection

from vault_core.clock import Clock, SystemClock
from vault_core.database import open_sync_engine
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import Settings, read_settings

T = TypeVar("T")


class VaultResource(dg.ConfigurableResource[None]):
    """Gives ops the services' Runtime and assets a connection for reading. Opens nothing until asked."""

    def settings(self) -> Settings:
        """The settings of this process (`VAULT_...` variables). Raises ConfigurationError naming what is missing."""
        return read_settings(os.environ)

    def clock(self) -> Clock:
        """The clock of this installation."""
        return SystemClock(self.settings().clock_offset)

    def reports_dir(self) -> Path:
        """The folder under which report files are written."""
        return self.settings().reports_dir

    def run(self, work: Callable[[Runtime, Connections], Awaitable[T]]) -> T:
        """Runs one service coroutine to its end with a fresh Runtime, and returns what it returns."""

        async def main() -> T:
            async with open_runtime(self.settings()) as runtime:
                connections = Connections(runtime)
                try:
                    return await work(runtime, connections)
                finally:
                    await connections.aclose()

        return uvloop.run(main())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection of the sync engine, for reports. One read-only snapshot from start to end."""
        engine = open_sync_engine(self.settings().database_url)
        try:
            with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of the sync engine, for the report tables."""
        engine = open_sync_engine(self.settings().database_url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()
