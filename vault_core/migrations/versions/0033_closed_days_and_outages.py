"""The days on which a lender's Mifos X takes no disbursal, as it told them; payouts that wait for a server that is away."""

from alembic import op

from vault_core.database import run_sql

revision = "0033"
down_revision = "0032"

SQL = """
-- By the office of the client. What the lender allows all the same is not in it. `problem`: what could not be read, and so is not known.
CREATE TABLE mifos_calendars (
    partner_id uuid NOT NULL REFERENCES partners,
    office_id bigint NOT NULL,
    read_at timestamptz NOT NULL,
    rest_days integer[] NOT NULL,  -- days of the week, 1 Monday to 7 Sunday
    holidays jsonb NOT NULL,       -- [{name, first, last}]: days in ISO form, both within
    problem text,
    PRIMARY KEY (partner_id, office_id)
);
GRANT SELECT, INSERT, UPDATE ON mifos_calendars TO vault_app;

ALTER TABLE disbursements
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'float_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency',
        'unresolved_payout', 'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'top_up', 'not_approved',
        'not_due', 'not_postable', 'sending_halted', 'mifos_away', 'by_person', 'cancelled'));
-- Two top-ups may close one older loan: the second waits for the posting of the first.
CREATE INDEX disbursements_topping_up ON disbursements (partner_id, older_loan_id) WHERE older_loan_id IS NOT NULL;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
