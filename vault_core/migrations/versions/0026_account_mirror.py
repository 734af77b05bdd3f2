"""What a partner's Mifos X has of accounts, as local data; what a payment may be for; what was said to M-Pesa before it took one."""

from alembic import op

from vault_core.database import run_sql

revision = "0026"
down_revision = "0025"

SQL = """
-- One row an account, copied from Mifos X and thrown away with it: never a source of money facts, only of "does it exist".
CREATE TABLE mifos_accounts (
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('loan', 'savings')),
    account_id bigint NOT NULL,
    account_no text NOT NULL,
    external_id text,
    product_id bigint,
    currency text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'approved', 'active', 'blocked', 'transfer', 'overpaid', 'closed', 'written_off',
                                         'rejected', 'other')),
    client_id bigint,                     -- none: an account of a group
    client_no text,
    client_name_sealed bytea,
    phone_hash bytea,                     -- of the client's mobile number in its one written form
    refreshed_at timestamptz NOT NULL,    -- Mifos X said so then
    -- As a payer's reference is compared: without spaces, in capitals; and without leading zeros, to find what was meant.
    number_key text NOT NULL GENERATED ALWAYS AS (upper(regexp_replace(account_no, '\\s', '', 'g'))) STORED,
    external_key text GENERATED ALWAYS AS (upper(regexp_replace(external_id, '\\s', '', 'g'))) STORED,
    bare_key text NOT NULL GENERATED ALWAYS AS (ltrim(upper(regexp_replace(account_no, '\\s', '', 'g')), '0')) STORED,
    PRIMARY KEY (partner_id, kind, account_id)
) WITH (fillfactor = 80);
CREATE INDEX mifos_accounts_number ON mifos_accounts (partner_id, number_key);
CREATE INDEX mifos_accounts_external ON mifos_accounts (partner_id, external_key) WHERE external_key IS NOT NULL;
CREATE INDEX mifos_accounts_bare ON mifos_accounts (partner_id, bare_key);
CREATE INDEX mifos_accounts_client_no ON mifos_accounts (partner_id, client_no) WHERE client_no IS NOT NULL;
CREATE INDEX mifos_accounts_client ON mifos_accounts (partner_id, client_id) WHERE client_id IS NOT NULL;
CREATE INDEX mifos_accounts_phone ON mifos_accounts (partner_id, phone_hash) WHERE phone_hash IS NOT NULL;

-- How far a partner's mirror is, and when it is refreshed next.
CREATE TABLE mifos_mirrors (
    partner_id uuid PRIMARY KEY REFERENCES partners,
    due_at timestamptz NOT NULL,          -- of the next refresh; while one is under way, of the next if its worker dies
    read_at timestamptz,                  -- all accounts were read as they were then
    renewed_at timestamptz,               -- and accounts made since, until then
    took_seconds integer NOT NULL DEFAULT 0,  -- the last read of all
    failures integer NOT NULL DEFAULT 0,  -- in a row
    last_error text
) WITH (fillfactor = 70);

-- How a partner's payments find their account, and what M-Pesa is told before it takes one. No row: the defaults.
CREATE TABLE collection_settings (
    partner_id uuid PRIMARY KEY REFERENCES partners,
    match_rules text[] NOT NULL,          -- in order; rules that compete with each other are joined by +
    prefixes jsonb NOT NULL,              -- {prefix: loan, savings or client}
    validation text NOT NULL CHECK (validation IN ('on', 'off')),
    when_unknown text NOT NULL CHECK (when_unknown IN ('accept', 'refuse')),
    closed_accounts text NOT NULL CHECK (closed_accounts IN ('accept', 'refuse')),
    least_cents bigint CHECK (least_cents > 0),
    most_cents bigint CHECK (most_cents >= coalesce(least_cents, 1))
);

-- A reference that people said stands for an account.
CREATE TABLE account_aliases (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    reference_hash bytea NOT NULL,        -- without spaces, in capitals
    reference_sealed bytea NOT NULL,      -- as it was given: may be a phone or a name
    kind text NOT NULL CHECK (kind IN ('loan', 'savings')),
    account_id bigint NOT NULL,
    account_no text NOT NULL,
    added_by text NOT NULL,
    added_at timestamptz NOT NULL,
    removed_by text,
    removed_at timestamptz,
    CHECK ((removed_by IS NULL) = (removed_at IS NULL))
);
CREATE UNIQUE INDEX account_aliases_in_force ON account_aliases (partner_id, reference_hash) WHERE removed_at IS NULL;
REVOKE UPDATE, DELETE ON account_aliases FROM vault_app;
GRANT UPDATE (removed_by, removed_at) ON account_aliases TO vault_app;

-- What was said to M-Pesa's question whether a payment may be taken, unless it was a plain yes.
CREATE TABLE payment_validations (
    event_id uuid NOT NULL,               -- the delivery that asked
    late boolean NOT NULL,                -- decided without the database and kept afterwards: then it is what M-Pesa was told
    partner_id uuid NOT NULL REFERENCES partners,
    at timestamptz NOT NULL,
    decision text NOT NULL CHECK (decision IN ('accepted', 'refused')),
    known boolean NOT NULL,               -- false: it could not be told, and the partner's setting decided
    code text NOT NULL,                   -- what M-Pesa was told
    reason text NOT NULL,
    short_code text,
    receipt text,
    amount_cents bigint,
    reference_masked text,
    reference_hash bytea,                 -- as collections.bill_reference_hash
    PRIMARY KEY (event_id, late)
);
CREATE INDEX payment_validations_by_time ON payment_validations (partner_id, at DESC);
REVOKE UPDATE, DELETE ON payment_validations FROM vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
