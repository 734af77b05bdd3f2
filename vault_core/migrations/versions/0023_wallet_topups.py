"""Nothing yet."""

from alembic import op

from vault_core.database import run_sql

revision = "0023"
down_revision = "0022"

SQL = """
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
