"""The two ways to the database, and there is no third: an async engine for services, a sync one for reports.

Processes log in as `vault_app`, which can do everything the product does and nothing that history forbids (update or delete
ledger entries, the audit log), and has no way to become more than that. Only migrations log in as the owner of the tables.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import stamina
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from vault_core.errors import ConfigurationError, DatabaseBusy
from vault_core.fault_points import reach
from vault_core.list_dumper import QuickListDumper

T = TypeVar("T")

APP_ROLE = "vault_app"
metadata = MetaData()
_TRANSACTION_TRIES = 5
# Whether the login could do what the owner of the tables can: as a superuser (who is a member of every role), as the owner, or as
# one who may become either. Before the first migration there are no tables, and only a superuser is told apart.
_HAS_THE_OWNERS_RIGHTS = """
    SELECT session_user, coalesce((SELECT pg_has_role(session_user, relowner, 'MEMBER') FROM pg_class
                                   WHERE oid = to_regclass('public.ledger_entries')),
                                  (SELECT rolsuper FROM pg_roles WHERE rolname = session_user))
"""
_HIDE = True  # the text of a database error is logged and kept as a cause: no parameters in it


def open_async_engine(database_url: str, *, pool_size: int = 10) -> AsyncEngine:
    """The engine of services, in UTC. Connects lazily; ConfigurationError if the login has the rights of the tables' owner."""
    engine = create_async_engine(
        database_url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, hide_parameters=_HIDE
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


def open_sync_engine(database_url: str) -> Engine:
    """The engine of reports: read by pandas, under the same login and the same condition."""
    engine = create_engine(database_url, pool_pre_ping=True, hide_parameters=_HIDE)
    event.listen(engine, "connect", _prepare)
    return engine


def open_owner_engine(database_url: str) -> Engine:
    """The engine of migrations, for the owner of the tables."""
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
                    result = await work(connection)
                    reach("before commit", work)
                reach("after commit", work)
                return result
    except DBAPIError as error:
        if _is_contention(error):
            raise DatabaseBusy(f"the transaction met a lock conflict {_TRANSACTION_TRIES} times: {error.orig}") from error
        raise
    raise AssertionError("retry_context yields until a return or a raise")


def _is_contention(error: Exception) -> bool:
    contention = psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure
    return isinstance(error, DBAPIError) and isinstance(error.orig, contention)


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    driver: Any = getattr(connection, "driver_connection", connection)  # of an async engine it is wrapped
    driver.adapters.register_dumper(list, QuickListDumper)
    cursor = connection.cursor()
    # Compiling costs short statements over partitions more than it saves them.
    cursor.execute("SET TIME ZONE 'UTC'; SET jit = off")
    cursor.execute(_HAS_THE_OWNERS_RIGHTS)
    login, could_rewrite_history = cursor.fetchone()  # type: ignore[misc]  # the statement always gives a row
    cursor.close()
    connection.commit()  # or the pool would keep a transaction open
    if could_rewrite_history:
        connection.close()
        raise ConfigurationError(
            f"VAULT_DATABASE_URL logs in as {login}, who has the rights of the tables' owner: let it log in as {APP_ROLE}, and "
            "give the owner's address to `vault up` in VAULT_OWNER_DATABASE_URL"
        )


def run_sql(connection: Connection, statements: str) -> None:
    """Runs several SQL statements as written (no parameters). For migrations."""
    connection.connection.cursor().execute(statements)  # past SQLAlchemy, which would read % as a placeholder
