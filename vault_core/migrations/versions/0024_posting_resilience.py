"""Queues that wait as a whole for an outside system that is away, when a batch was last worked on, and top-ups that are held."""

from alembic import op

from vault_core.database import run_sql

revision = "0024"
down_revision = "0023"

SQL = """
-- One row while a partner's outside system (whose calls have this topic) is away: nothing of its queue is relayed or claimed, and one
-- worker at a time asks whether it is back.
CREATE TABLE outbox_outages (
    partner_id uuid NOT NULL REFERENCES partners,
    topic text NOT NULL,
    since timestamptz NOT NULL,
    cause text NOT NULL,
    probes integer NOT NULL DEFAULT 0,    -- asked in vain since then
    probe_at timestamptz NOT NULL,        -- not before; moved by each probe before it is made
    PRIMARY KEY (partner_id, topic)
);

-- A claim of the batch says that its run is under way.
ALTER TABLE disbursement_batches ADD COLUMN worked_at timestamptz;

-- Newer servers take what the older loan owes off a top-up only when it is disbursed.
ALTER TABLE disbursements
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'float_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency',
        'unresolved_payout', 'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'top_up', 'not_approved',
        'sending_halted', 'by_person', 'cancelled'));
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
