"""Prompts to pay (STK push), and the tokens of the partners' API."""

from alembic import op

from vault_core.database import run_sql

revision = "0028"
down_revision = "0027"

SQL = """
-- A prompt is written before it is sent, so that none goes out which nobody knows of.
CREATE TABLE stk_requests (
    id uuid PRIMARY KEY,                        -- also at the end of the callback's URL
    partner_id uuid NOT NULL REFERENCES partners,
    idempotency_key text NOT NULL,
    body_hash bytea NOT NULL,                   -- keyed hash of what was asked for
    short_code text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0 AND amount_cents % 100 = 0),
    phone_sealed bytea NOT NULL,
    phone_hash bytea NOT NULL,
    account_reference_sealed bytea NOT NULL,    -- what the money is booked under: the callback does not say it
    account_reference_hash bytea NOT NULL,      -- as collections.bill_reference_hash
    description text NOT NULL,
    asked_by text NOT NULL,                     -- 'ops:achieng', 'token:branch-app'
    asked_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('prompting', 'prompted', 'refused', 'unknown', 'paid', 'declined', 'expired')),
    reason text,
    merchant_request_id text,
    checkout_sealed bytea,                      -- CheckoutRequestID: it ends in the customer's phone
    checkout_hash bytea,
    callback_code text,                         -- what the callback said, once it came
    callback_receipt text,                      -- the receipt it named
    query_code text,                            -- what the last question that was answered with an end said
    receipt text,
    receipt_from text CHECK (receipt_from IN ('callback', 'payment')),
    queries integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,            -- then no end is waited for any more, but money is
    look_at timestamptz,                        -- when it is looked at again; never once it can change no more
    ended_at timestamptz,
    UNIQUE (partner_id, idempotency_key),
    CHECK ((checkout_sealed IS NULL) = (checkout_hash IS NULL)),
    CHECK ((receipt IS NULL) = (receipt_from IS NULL)),
    CHECK (state <> 'paid' OR receipt IS NOT NULL)
);
CREATE UNIQUE INDEX stk_requests_by_checkout ON stk_requests (partner_id, checkout_hash) WHERE checkout_hash IS NOT NULL;
CREATE INDEX stk_requests_to_look_at ON stk_requests (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX stk_requests_by_time ON stk_requests (partner_id, asked_at);
CREATE INDEX stk_requests_by_receipt ON stk_requests (partner_id, short_code, receipt) WHERE receipt IS NOT NULL;
CREATE INDEX stk_requests_by_callback_receipt ON stk_requests (partner_id, short_code, callback_receipt) WHERE callback_receipt IS NOT NULL;
CREATE INDEX stk_requests_alike ON stk_requests (partner_id, account_reference_hash, asked_at);
-- The payment of a prompt whose callback is lost is found by what it was for.
CREATE INDEX collections_by_reference ON collections (partner_id, bill_reference_hash, happened_at);

REVOKE ALL ON stk_requests FROM vault_app;
GRANT SELECT, INSERT ON stk_requests TO vault_app;
GRANT UPDATE (state, reason, merchant_request_id, checkout_sealed, checkout_hash, callback_code, callback_receipt, query_code, receipt,
              receipt_from, queries, look_at, ended_at) ON stk_requests TO vault_app;

CREATE TABLE api_tokens (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{1,40}$'),
    token_hash bytea NOT NULL UNIQUE,           -- keyed; the token itself is nowhere
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    requests_a_minute integer NOT NULL CHECK (requests_a_minute > 0),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    minute_began_at timestamptz,                -- of the count below
    requests integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX api_tokens_by_name ON api_tokens (partner_id, name) WHERE revoked_at IS NULL;

REVOKE ALL ON api_tokens FROM vault_app;
GRANT SELECT, INSERT ON api_tokens TO vault_app;
GRANT UPDATE (revoked_at, last_used_at, minute_began_at, requests) ON api_tokens TO vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
