"""What was reported for a day, and what Mifos X said of the accounts that day touched."""

from alembic import op

from vault_core.database import run_sql

revision = "0007"
down_revision = "0006"

SQL = """
CREATE TABLE report_days (
    report text NOT NULL,
    day date NOT NULL,
    version integer NOT NULL,
    made_at timestamptz NOT NULL,
    rows bigint NOT NULL,
    total_cents bigint NOT NULL,
    content_sha256 text NOT NULL,
    PRIMARY KEY (report, day, version)
);

-- A Mifos X transaction as read back: the third leg of the reconciliation.
CREATE TABLE core_lines (
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('disburse', 'repayment', 'deposit')),
    account_id bigint NOT NULL,
    mifos_transaction_id bigint NOT NULL,
    external_id text,
    receipt text,
    amount_cents bigint NOT NULL,
    transaction_date date NOT NULL,
    reversed boolean NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, kind, mifos_transaction_id)
);
CREATE INDEX core_lines_by_day ON core_lines (partner_id, transaction_date);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
