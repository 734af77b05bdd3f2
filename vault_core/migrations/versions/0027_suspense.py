"""Nothing yet."""

from alembic import op

from vault_core.database import run_sql

revision = "0027"
down_revision = "0026"

SQL = """
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
