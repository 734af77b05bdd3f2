"""Money that came in."""

from alembic import op

from vault_core.database import run_sql

revision = "0005"
down_revision = "0004"

SQL = """
CREATE TABLE collections (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    receipt text NOT NULL,                -- TransID: one across C2B, STK and pull
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    happened_at timestamptz NOT NULL,
    bill_reference_sealed bytea NOT NULL, -- as typed by the payer: may be a phone or a name
    bill_reference_hash bytea NOT NULL,   -- of the normalised reference
    payer_phone_sealed bytea,
    payer_phone_hash bytea,
    payer_name_sealed bytea,
    state text NOT NULL CHECK (state IN ('matching', 'posting', 'posted', 'suspense', 'needs_review')),
    reason text,
    account_kind text CHECK (account_kind IN ('loan', 'savings')),
    account_id bigint,
    account_no text,
    client_id bigint,
    source text NOT NULL CHECK (source IN ('c2b', 'stk', 'pull', 'statement')),
    event_id uuid NOT NULL,
    booked_at timestamptz NOT NULL,
    posted_at timestamptz,
    org_balance_cents bigint,             -- of the short code after it, as the feed says
    new_balance_cents bigint,             -- of the account after posting, as Mifos X says
    UNIQUE (short_code, receipt)
);
CREATE INDEX collections_by_day ON collections (partner_id, happened_at);
CREATE INDEX collections_open ON collections (partner_id, state) WHERE state <> 'posted';
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
