"""What readers of the ledger look at: the partner's view of its wallet."""

from alembic import op

from vault_core.database import run_sql

revision = "0011"
down_revision = "0010"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
