"""Finding, by its receipt, a payment that somebody entered in Mifos X by hand before we could post it."""

from alembic import op

from vault_core.database import run_sql

revision = "0034"
down_revision = "0033"

SQL = """
CREATE INDEX core_payments_of_receipt ON core_payments (partner_id, receipt) WHERE undone_at IS NULL;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
