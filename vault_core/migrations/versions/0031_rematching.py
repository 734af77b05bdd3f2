"""A payment in suspense whose reference comes later is matched anew, and stays in suspense meanwhile."""

from alembic import op

from vault_core.database import run_sql

revision = "0031"
down_revision = "0030"

SQL = """
ALTER TABLE collections
    DROP CONSTRAINT collections_in_suspense,
    ADD CONSTRAINT collections_in_suspense CHECK (CASE
        WHEN state IN ('suspense', 'reversing') THEN in_suspense WHEN state IN ('posted', 'reversed') THEN NOT in_suspense
        ELSE true END);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
