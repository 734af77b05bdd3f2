"""The schema: brought up to date by Alembic revisions, with its partitions cut ahead (vault_core/partitions.py)."""

from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from vault_core.partitions import CUT, partitions_around

_MIGRATION_LOCK = 7_266_331_001  # any constant: one migration at a time on a database


def migrate(owner: Engine, *, now: datetime) -> None:
    """Applies the missing revisions and makes the partitions around `now` (aware). Idempotent; concurrent calls take turns."""
    with owner.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        try:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            for partition in partitions_around(now):
                connection.execute(CUT, partition.arguments())
            connection.execute(text("SELECT ledger_adopt_server()"))
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
