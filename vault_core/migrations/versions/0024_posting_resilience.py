"""Queues that wait as a whole for an outside system that is away, and when a batch was last worked on."""

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
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
