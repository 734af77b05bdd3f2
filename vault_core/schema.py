"""The schema: brought up to date by Alembic revisions, and kept cut into days and months ahead of time."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from vault_core.database import APP_ROLE
from vault_core.identifiers import lowest_id_at

_MIGRATION_LOCK = 7_266_331_001  # any constant: one migration at a time on a database
_DAILY = ("inbound_events",)
_MONTHLY = ("ledger_transactions", "ledger_entries")
DAYS_AHEAD = 14
MONTHS_AHEAD = 3


def migrate(owner: Engine, *, now: datetime) -> None:
    """Applies the missing revisions and makes the partitions around `now` (aware). Idempotent; concurrent calls take turns."""
    with owner.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        try:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            ensure_partitions(connection, now=now)
            connection.execute(text("SELECT ledger_adopt_server()"))
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()


def ensure_partitions(connection: Connection, *, now: datetime) -> None:
    """Makes the missing partitions from the day before `now` to two weeks (three months) ahead. Must run as the owner.

    Rows that no partition covers are kept in the default partition, so a late call loses nothing.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]
    for table in _DAILY:
        for start, end in pairwise(days):
            _make(connection, table, f"{table}_{start:%Y%m%d}", start, end)
    months = [_month(today, offset) for offset in range(-1, MONTHS_AHEAD + 1)]
    for table in _MONTHLY:
        for start, end in pairwise(months):
            _make(connection, table, f"{table}_{start:%Y%m}", start, end)
            # Default privileges would let the application write past the ledger's functions (revision 0003).
            connection.exec_driver_sql(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table}_{start:%Y%m} FROM {APP_ROLE}")


def _month(day: datetime, offset: int) -> datetime:
    years, month = divmod(day.month - 1 + offset, 12)
    return day.replace(year=day.year + years, month=month + 1, day=1)


def _make(connection: Connection, table: str, name: str, start: datetime, end: datetime) -> None:
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} "
        f"FOR VALUES FROM ('{lowest_id_at(start)}') TO ('{lowest_id_at(end)}')"
    )
