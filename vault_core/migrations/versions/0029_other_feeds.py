"""Nothing yet."""

from alembic import op

from vault_core.database import run_sql

revision = "0029"
down_revision = "0028"

SQL = """
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
