"""Loans in tranches: which part a disbursement is, and when the loan is read for the next one."""

from alembic import op

from vault_core.database import run_sql

revision = "0017"
down_revision = "0016"

SQL = """
ALTER TABLE disbursements
    ADD COLUMN of_tranches boolean NOT NULL DEFAULT false,
    ADD COLUMN next_tranche_at timestamptz,   -- of a disbursed tranche: when to look for the one after it; null: no more
    ADD CHECK (tranche > 0),
    ADD CHECK (tranche = 1 OR of_tranches),
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency', 'unresolved_payout',
        'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'not_approved'));
-- Those held before were held for being in tranches at all.
UPDATE disbursements SET of_tranches = true WHERE held_for = 'tranche_loan';
CREATE INDEX disbursements_next_tranche ON disbursements (next_tranche_at) WHERE next_tranche_at IS NOT NULL;

ALTER TABLE core_postings ADD COLUMN tranche integer CHECK (tranche IS NULL OR (tranche > 0 AND kind = 'disburse'));
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
