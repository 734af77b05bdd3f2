"""Deliveries as received, cut by day, and the calls to make."""

from alembic import op

from vault_core.database import run_sql

revision = "0002"
down_revision = "0001"

SQL = """
-- One delivery as received. Keyed by UUIDv7 made at receipt, so a day is a range of ids: daily partitions with a plain primary key.
CREATE TABLE inbound_events (
    id uuid NOT NULL,
    partner_id uuid NOT NULL,
    purpose text NOT NULL,
    topic text NOT NULL,
    received_at timestamptz NOT NULL,
    source_ip text NOT NULL,
    content_type text NOT NULL,
    path_reference text,                  -- what followed the token in the path: our own reference, chosen by us
    headers jsonb NOT NULL DEFAULT '{}',  -- only those that matter (X-Fineract-Entity ...)
    body_sealed bytea NOT NULL,           -- the exact bytes
    body_bytes integer NOT NULL,
    parsed boolean NOT NULL,              -- whether the body was the JSON object it should be
    state text NOT NULL DEFAULT 'stored' CHECK (state IN ('stored', 'processed', 'exception')),
    cause text,                           -- of an exception
    effect text,                          -- what processing it did, in a few words: 'paid <receipt>', 'duplicate'
    processed_at timestamptz,
    sweeps integer NOT NULL DEFAULT 0,
    next_sweep_at timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE inbound_events_default PARTITION OF inbound_events DEFAULT;
CREATE INDEX inbound_events_unprocessed ON inbound_events (next_sweep_at) WHERE state = 'stored';
CREATE INDEX inbound_events_exceptions ON inbound_events (partner_id, id) WHERE state = 'exception';

-- One call to make. `kind` names the handler, `subject` what it is about; (kind, subject) makes a repeat harmless.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    topic text NOT NULL CHECK (topic IN ('vault.dispatch.mifos', 'vault.dispatch.sms')),
    kind text NOT NULL,
    subject text NOT NULL,
    ordering_key text NOT NULL,           -- Kafka key: calls that must not overlap (one loan) share it
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'given_up')),
    due_at timestamptz NOT NULL,          -- not before; moved by each retry
    relay_at timestamptz NOT NULL,        -- when it may next be published; moved by each publication
    lease_until timestamptz,              -- while one worker has it
    tries integer NOT NULL DEFAULT 0,
    last_cause text,
    created_at timestamptz NOT NULL,
    done_at timestamptz,
    UNIQUE (kind, subject)
);
CREATE INDEX outbox_due ON outbox (relay_at) WHERE state = 'pending';
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
