"""How fast each partner's payouts may go out."""

from alembic import op

from vault_core.database import run_sql

revision = "0019"
down_revision = "0018"

SQL = """
CREATE TABLE send_paces (
    partner_id uuid PRIMARY KEY REFERENCES partners,
    gap_us bigint NOT NULL CHECK (gap_us > 0),  -- microseconds between two sends, over all processes
    next_at timestamptz NOT NULL,               -- the next free slot
    changed_at timestamptz NOT NULL,            -- of the gap
    slowed_at timestamptz                       -- when M-Pesa last asked to slow down
) WITH (fillfactor = 50);
CREATE INDEX disbursement_attempts_under_way ON disbursement_attempts (partner_id, send_by) WHERE state = 'written';
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
