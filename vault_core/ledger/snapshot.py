"""Several reads of the ledger as of one moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@asynccontextmanager
async def ledger_snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection on which every query sees the ledger as it is now, whatever is posted meanwhile. It cannot write."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            yield connection
