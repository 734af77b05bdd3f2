"""System fees by partner, service and product; charges of collections; the tariff audit."""

from alembic import op

from vault_core.database import run_sql

revision = "0014"
down_revision = "0013"

SQL = """
SELECT 1;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
