"""The application logs in as itself, not as the owner."""

from alembic import op

from vault_core.database import run_sql

revision = "0016"
down_revision = "0015"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
