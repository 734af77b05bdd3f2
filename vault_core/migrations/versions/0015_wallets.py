"""Adjustments by two people; what low-wallet alerts tell."""

from alembic import op

from vault_core.database import run_sql

revision = "0015"
down_revision = "0014"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
