"""What readers of the ledger stand on: ids that tell the time of booking, charge lines found by their transaction."""

from alembic import op

from vault_core.database import run_sql

revision = "0011"
down_revision = "0010"

SQL = """
-- Reads as of a booked time find their place by id (vault_core/ledger/as_of.py), so an id may not tell another time than booked_at.
ALTER TABLE ledger_transactions ADD CONSTRAINT ledger_transactions_id_of_its_time CHECK (
    uuid_extract_timestamp(id) BETWEEN booked_at - interval '5 minutes' AND booked_at + interval '5 minutes');

-- The partner's view of its wallet shows the lines of each charge (vault_core/wallets/functions/30_wallet_transactions.sql).
CREATE INDEX charge_lines_by_transaction ON charge_lines (transaction_id) WHERE transaction_id IS NOT NULL;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
