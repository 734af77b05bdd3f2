"""Roles, partners, sealed credentials, callback tokens, cases, audit."""

from alembic import op

from vault_core.database import run_sql

revision = "0001"
down_revision = None

SQL = """
-- Roles belong to the whole server: another database of it may have made this one already, even at this moment.
DO $$ BEGIN
    CREATE ROLE vault_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN
    EXECUTE format('GRANT vault_app TO %I', current_user);
EXCEPTION WHEN OTHERS THEN NULL; END $$;
GRANT USAGE ON SCHEMA public TO vault_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO vault_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO vault_app;

CREATE TABLE partners (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{1,40}$'),
    display_name text NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'halted')),
    state_reason text,
    -- Mifos X
    mifos_url text NOT NULL,              -- .../fineract-provider/api/v1
    mifos_tenant text NOT NULL,
    mifos_user text NOT NULL,
    mifos_ca_pem text,
    mifos_capabilities jsonb NOT NULL DEFAULT '{}',
    mifos_payment_type_id bigint,
    -- M-Pesa
    mpesa_url text NOT NULL,
    mpesa_initiator text NOT NULL,
    b2c_short_code text NOT NULL,
    c2b_short_code text NOT NULL,
    b2c_command text NOT NULL DEFAULT 'BusinessPayment',
    -- SMS
    sms_url text NOT NULL,
    sms_user text NOT NULL,
    sms_sender text NOT NULL,
    sms_price_cents bigint NOT NULL CHECK (sms_price_cents >= 0),   -- a part
    -- charges
    system_fee_cents bigint NOT NULL DEFAULT 0 CHECK (system_fee_cents >= 0),  -- a disbursement
    mpesa_fee_paid_by text NOT NULL DEFAULT 'wallet' CHECK (mpesa_fee_paid_by IN ('wallet', 'short_code')),
    low_balance_cents bigint NOT NULL DEFAULT 0,
    -- polling
    next_poll_at timestamptz NOT NULL,
    last_poll_at timestamptz,
    last_poll_error text,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX partners_c2b_short_code ON partners (c2b_short_code);
CREATE UNIQUE INDEX partners_b2c_short_code ON partners (b2c_short_code);

CREATE TABLE partner_credentials (
    partner_id uuid NOT NULL REFERENCES partners,
    purpose text NOT NULL CHECK (purpose IN ('mifos_password', 'mpesa_consumer_key', 'mpesa_consumer_secret',
                                             'mpesa_security_credential', 'mpesa_passkey', 'sms_api_key')),
    sealed bytea NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, purpose)
);

CREATE TABLE partner_contacts (
    partner_id uuid NOT NULL REFERENCES partners,
    role text NOT NULL CHECK (role IN ('operations', 'finance')),
    name_sealed bytea NOT NULL,
    phone_sealed bytea NOT NULL,
    phone_hash bytea NOT NULL,
    PRIMARY KEY (partner_id, role, phone_hash)
);

CREATE TABLE partner_products (
    partner_id uuid NOT NULL REFERENCES partners,
    product_id bigint NOT NULL,           -- Mifos X loan product id: names are editable there
    name text NOT NULL,
    short_name text NOT NULL DEFAULT '',
    currency text NOT NULL DEFAULT 'KES',
    active_in_mifos boolean NOT NULL DEFAULT true,
    enabled boolean NOT NULL DEFAULT false,
    min_cents bigint,
    max_cents bigint,
    daily_limit_cents bigint,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, product_id),
    CHECK (NOT enabled OR (min_cents IS NOT NULL AND max_cents IS NOT NULL AND min_cents <= max_cents))
);

-- Tokens in callback paths. Only the hash is kept; the token itself is derived from the master key (vault_core/secrets.py).
CREATE TABLE callback_tokens (
    token_hash bytea PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    purpose text NOT NULL CHECK (purpose IN ('c2b_validation', 'c2b_confirmation', 'b2c_result', 'b2c_timeout',
                                             'stk_result', 'query_result', 'query_timeout', 'mifos_hook', 'sms_report')),
    generation integer NOT NULL DEFAULT 1,
    revoked_at timestamptz,
    UNIQUE (partner_id, purpose, generation)
);

-- One OAuth token an app, shared by all processes: each new token may end the old one (reference/daraja.md section 1).
CREATE TABLE access_tokens (
    partner_id uuid NOT NULL REFERENCES partners,
    service text NOT NULL CHECK (service IN ('mpesa')),
    sealed bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, service)
);

-- Something a person must see.
CREATE TABLE cases (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners,
    kind text NOT NULL,
    subject text NOT NULL,
    amount_cents bigint,
    opened_at timestamptz NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}',
    owner text,
    closed_at timestamptz,
    resolution text
);
CREATE UNIQUE INDEX cases_one_open ON cases (kind, subject) WHERE closed_at IS NULL;
CREATE INDEX cases_by_partner ON cases (partner_id, opened_at);

CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,                  -- 'ops:<login>', 'system:<process>'
    act text NOT NULL,                    -- 'partner.added'
    partner_id uuid,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    reason text
);
CREATE INDEX audit_log_by_subject ON audit_log (subject, at);
REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
