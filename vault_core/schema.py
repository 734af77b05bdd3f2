"""The schema: brought up to date by Alembic revisions, with its partitions cut ahead (vault_core/partitions.py).

Tables change by revisions, which are never edited once landed. Functions have no state: each stands once, as it is today, in a
`functions/` folder of its capability, and is put in place after the revisions at every migration, in the order of the file names.
A function whose arguments change is dropped by a revision first.
"""

from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from vault_core.database import run_sql
from vault_core.partitions import CUT, partitions_around

_LIMIT = text("UPDATE person_limits SET alone_up_to_cents = :cents WHERE what = 'assign'")
_MIGRATION_LOCK = 7_266_331_001  # any constant: one migration at a time on a database


def migrate(owner: Engine, *, now: datetime, assign_alone_up_to: int | None = None) -> None:
    """Applies the missing revisions, puts the functions in place, makes the partitions around `now` (aware).

    `assign_alone_up_to`: what one person may decide alone about a payment, in KES; None leaves what stands there.

    Idempotent; concurrent calls take turns.
    """
    with owner.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        try:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            for functions in sorted(Path(__file__).parent.glob("*/functions/*.sql")):
                run_sql(connection, functions.read_text(encoding="utf-8"))
            for partition in partitions_around(now):
                connection.execute(CUT, partition.arguments())
            connection.execute(text("SELECT ledger_adopt_server()"))
            if assign_alone_up_to is not None:
                connection.execute(_LIMIT, {"cents": assign_alone_up_to * 100})
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
