"""Price lists that the database itself keeps whole, and those that are shipped."""

from alembic import op

from vault_core.database import run_sql

revision = "0013"
down_revision = "0012"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
