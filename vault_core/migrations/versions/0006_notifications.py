"""What is to be told, and each try at a gateway."""

from alembic import op

from vault_core.database import run_sql

revision = "0006"
down_revision = "0005"

SQL = """
CREATE TABLE messages (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    business_key text NOT NULL UNIQUE,    -- 'disbursed:<disbursement>:client', 'receipt:<receipt>'
    template text NOT NULL,
    phone_sealed bytea NOT NULL,
    phone_hash bytea NOT NULL,
    text_sealed bytea NOT NULL,
    parts integer NOT NULL CHECK (parts > 0),
    price_cents bigint NOT NULL CHECK (price_cents >= 0),   -- parts times the partner's price when written
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'unknown', 'accepted', 'delivered', 'refused')),
    created_at timestamptz NOT NULL,
    accepted_at timestamptz,
    reason text
);
CREATE INDEX messages_by_day ON messages (partner_id, created_at);

CREATE TABLE message_attempts (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    message_id uuid NOT NULL REFERENCES messages,
    number integer NOT NULL,
    gateway text NOT NULL,
    our_reference text NOT NULL,          -- sms_id: the same for every try of one message
    state text NOT NULL CHECK (state IN ('written', 'accepted', 'refused', 'unknown')),
    written_at timestamptz NOT NULL,
    answered_at timestamptz,
    answer text,
    gateway_reference text,
    UNIQUE (message_id, number)
);
CREATE INDEX message_attempts_reference ON message_attempts (our_reference);
-- At most one try of a message may have reached its receiver.
CREATE UNIQUE INDEX message_attempts_one_open ON message_attempts (message_id) WHERE state IN ('written', 'accepted', 'unknown');
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
