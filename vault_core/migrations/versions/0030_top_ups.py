"""What of a top-up goes to the older loan; loans that Mifos X would refuse to disburse; undone disbursals that were told."""

from alembic import op

from vault_core.database import run_sql

revision = "0030"
down_revision = "0029"

SQL = """
-- A top-up pays off an older loan of the client. `payoff_cents`: what we kept back for that; `payoff_taken_cents`: what Mifos X took.
ALTER TABLE disbursements
    ADD COLUMN older_loan_id bigint,
    ADD COLUMN payoff_cents bigint CHECK (payoff_cents > 0),
    ADD COLUMN payoff_taken_cents bigint CHECK (payoff_taken_cents >= 0),
    ADD COLUMN undo_told_at timestamptz,  -- of the first tranche: a person was told that a disbursal of the loan was undone
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'float_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency',
        'unresolved_payout', 'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'top_up', 'not_approved',
        'not_due', 'not_postable', 'sending_halted', 'by_person', 'cancelled'));
CREATE INDEX disbursements_payoff_to_compare ON disbursements (due_at)
    WHERE state = 'disbursed' AND older_loan_id IS NOT NULL AND payoff_taken_cents IS NULL;

-- Posted without an external id: Mifos X books the disbursal of a top-up as two transactions and refuses one id for both.
ALTER TABLE core_postings ADD COLUMN top_up boolean NOT NULL DEFAULT false;

-- The product takes a disbursal under the loan's expected day only.
ALTER TABLE partner_products ADD COLUMN expected_day_only boolean NOT NULL DEFAULT false;

UPDATE disbursements d SET undo_told_at = c.opened_at
FROM (SELECT partner_id, subject, max(opened_at) AS opened_at FROM cases WHERE kind = 'disbursal_undone' GROUP BY 1, 2) c
WHERE d.partner_id = c.partner_id AND d.tranche = 1 AND c.subject = 'loan ' || d.loan_account_no || ' of ' || d.partner_id;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
