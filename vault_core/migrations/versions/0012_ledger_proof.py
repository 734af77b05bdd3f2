"""What the proof of the ledger needs."""

from alembic import op

from vault_core.database import run_sql

revision = "0012"
down_revision = "0011"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
