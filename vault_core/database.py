"""The two ways to the database, and there is no third: an async engine for services, a sync one for reports.

Processes connect as the owner of the database URL and at once take the role `vault_app`, which can do everything the product
does and nothing that history forbids (update or delete ledger entries, the audit log). Only migrations act as the owner.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import stamina
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from vault_core.errors import DatabaseBusy

T = TypeVar("T")

APP_ROLE = "vault_app"
metadata = MetaData()
_TRANSACTION_TRIES = 5
_HIDE = True  # the text of a database error is logged and kept as a cause: no parameters in it


def open_async_engine(database_url: str, *, pool_size: int = 10) -> AsyncEngine:
    """The engine of services. Connects lazily; every connection acts as `vault_app` in UTC."""
    engine = create_async_engine(
        database_url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, hide_parameters=_HIDE
    )
    event.listen(engine.sync_engine, "connect", _take_app_role)
    return engine


def open_sync_engine(database_url: str) -> Engine:
    """The engine of reports: read by pandas, in the same role."""
    engine = create_engine(database_url, pool_pre_ping=True, hide_parameters=_HIDE)
    event.listen(engine, "connect", _take_app_role)
    return engine


def open_owner_engine(database_url: str) -> Engine:
    """The engine of migrations: keeps the rights of the URL's own user."""
    return create_engine(database_url)


async def in_transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Runs `work` in one transaction and returns what it returns; a deadlock or serialisation failure starts it anew.

    At most five tries, then DatabaseBusy. `work` must therefore have no effect outside its connection.
    """
    try:
        async for attempt in stamina.retry_context(
            on=_is_contention, attempts=_TRANSACTION_TRIES, timeout=30, wait_initial=0.02, wait_max=1.0
        ):
            with attempt:
                async with engine.begin() as connection:
                    return await work(connection)
    except DBAPIError as error:
        if _is_contention(error):
            raise DatabaseBusy(f"the transaction met a lock conflict {_TRANSACTION_TRIES} times: {error.orig}") from error
        raise
    raise AssertionError("retry_context yields until a return or a raise")


def _is_contention(error: Exception) -> bool:
    contention = psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure
    return isinstance(error, DBAPIError) and isinstance(error.orig, contention)


def _take_app_role(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The psycopg connection would otherwise leave a transaction open in the pool.
    cursor = connection.cursor()
    cursor.execute(f"SET ROLE {APP_ROLE}")
    cursor.execute("SET TIME ZONE 'UTC'")
    cursor.execute("SET jit = off")  # compiling costs short statements over partitions more than it saves them
    cursor.close()
    connection.commit()


def run_sql(connection: Connection, statements: str) -> None:
    """Runs several SQL statements as written (no parameters). For migrations."""
    connection.connection.cursor().execute(statements)  # past SQLAlchemy, which would read % as a placeholder
