"""What tells of customers' payments beside their confirmations: pulled rows, statements, balances, and Mifos X itself."""

from alembic import op

from vault_core.database import run_sql

revision = "0029"
down_revision = "0028"

SQL = """
-- found_late: a pull or a statement told of it first, so long after it happened that its confirmation is missing.
ALTER TABLE collections ADD COLUMN found_late boolean NOT NULL DEFAULT false;

-- Who told of a payment after the first (which stands in the collection itself), and what it rests on. A pull reads its windows again
-- and again: its first telling is kept.
CREATE TABLE collection_tellings (
    collection_id uuid NOT NULL REFERENCES collections,
    source text NOT NULL CHECK (source IN ('c2b', 'stk', 'pull', 'statement')),
    event_id uuid NOT NULL,                   -- an inbound event, a pull answer or a row of a statement
    told_at timestamptz NOT NULL,
    PRIMARY KEY (collection_id, source, event_id)
);
CREATE UNIQUE INDEX collection_tellings_pulled ON collection_tellings (collection_id) WHERE source = 'pull';
REVOKE UPDATE, DELETE, TRUNCATE ON collection_tellings FROM vault_app;

-- A pay bill whose payments M-Pesa lets us pull.
CREATE TABLE pull_feeds (
    short_code text PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    registered_at timestamptz NOT NULL,
    begins_at timestamptz NOT NULL,           -- never read before it: what was paid then may be entered in Mifos X already
    swept_to timestamptz NOT NULL,            -- all until then is read; the next window begins some time before it
    again_from timestamptz,                   -- from here on it is wanted once more: a balance says that something is missing
    next_sweep_at timestamptz NOT NULL,
    failures integer NOT NULL DEFAULT 0,      -- sweeps since the last one that M-Pesa answered
    last_failure text
) WITH (fillfactor = 70);
CREATE INDEX pull_feeds_due ON pull_feeds (next_sweep_at);

-- One question and what came back, kept before anything is made of it.
CREATE TABLE pull_answers (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL CHECK (to_at > from_at),
    row_offset integer NOT NULL,
    answered_at timestamptz NOT NULL,
    outcome text NOT NULL,
    http_status integer,                      -- null: no answer came
    body_sealed bytea,
    row_count integer NOT NULL DEFAULT 0,
    unreadable integer NOT NULL DEFAULT 0     -- rows in which no payment could be read
);
CREATE INDEX pull_answers_of ON pull_answers (short_code, to_at);
REVOKE UPDATE, DELETE, TRUNCATE ON pull_answers FROM vault_app;

-- How well confirmations came, as each sweep found it: a gauge with its history.
CREATE TABLE feed_health (
    short_code text NOT NULL,
    measured_at timestamptz NOT NULL,
    partner_id uuid NOT NULL REFERENCES partners,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    confirmed integer NOT NULL,               -- payments between the two that a confirmation or STK push told
    missed integer NOT NULL,                  -- those that only a pull or a statement told
    unlisted integer NOT NULL,                -- confirmed ones that the pull does not list: it cannot be trusted then
    PRIMARY KEY (short_code, measured_at)
);
REVOKE UPDATE, DELETE, TRUNCATE ON feed_health FROM vault_app;

-- A statement that a person downloaded from the M-Pesa portal, and its rows as they stood in it.
CREATE TABLE statement_imports (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    file_name text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    imported_by text NOT NULL CHECK (imported_by <> ''),
    imported_at timestamptz NOT NULL,
    skipped_bad integer NOT NULL,             -- rows that could not be read and that the person chose to leave out
    UNIQUE (partner_id, sha256)
);
REVOKE UPDATE, DELETE, TRUNCATE ON statement_imports FROM vault_app;
CREATE TABLE statement_rows (
    id uuid PRIMARY KEY,
    import_id uuid NOT NULL REFERENCES statement_imports,
    line integer NOT NULL CHECK (line > 0),
    receipt text NOT NULL,
    row_sealed bytea NOT NULL,                -- its cells
    UNIQUE (import_id, line)
);
CREATE INDEX statement_rows_by_receipt ON statement_rows (receipt);
REVOKE UPDATE, DELETE, TRUNCATE ON statement_rows FROM vault_app;

-- Up to where the balances in the confirmations of a pay bill are accounted for.
CREATE TABLE org_balance_checks (
    short_code text PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    settled_at timestamptz NOT NULL,
    settled_cents bigint NOT NULL,            -- the balance after the payment it was told in
    settled_receipt text NOT NULL
) WITH (fillfactor = 70);

-- What no payment we know of explains between two balances: above zero a gap, below zero money that left the account.
CREATE TABLE org_balance_gaps (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    from_receipt text NOT NULL,
    from_at timestamptz NOT NULL,
    from_cents bigint NOT NULL,               -- after it
    to_receipt text NOT NULL,
    to_at timestamptz NOT NULL,
    to_cents bigint NOT NULL,                 -- before it
    amount_cents bigint GENERATED ALWAYS AS (to_cents - from_cents) STORED CHECK (amount_cents <> 0),
    found_at timestamptz NOT NULL,
    explained_at timestamptz,                 -- payments heard of later leave nothing of it
    UNIQUE (short_code, from_receipt, to_receipt)
);
CREATE INDEX org_balance_gaps_open ON org_balance_gaps (short_code, found_at) WHERE amount_cents > 0 AND explained_at IS NULL;
REVOKE UPDATE, DELETE, TRUNCATE ON org_balance_gaps FROM vault_app;
GRANT UPDATE (explained_at) ON org_balance_gaps TO vault_app;

-- Repayments and deposits that somebody entered in Mifos X, not we.
ALTER TABLE partners ADD COLUMN text_core_payments boolean NOT NULL DEFAULT false;
CREATE TABLE core_payments (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    account_kind text NOT NULL CHECK (account_kind IN ('loan', 'savings')),
    account_id bigint NOT NULL,
    transaction_id bigint NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    happened_on date NOT NULL,
    receipt text,
    seen_at timestamptz NOT NULL,
    event_id uuid NOT NULL,                   -- the web hook that made us look
    undone_at timestamptz,                    -- when it was seen undone
    UNIQUE (partner_id, account_kind, account_id, transaction_id)
);
REVOKE UPDATE, DELETE, TRUNCATE ON core_payments FROM vault_app;
GRANT UPDATE (undone_at) ON core_payments TO vault_app;
CREATE INDEX core_postings_of_account ON core_postings (partner_id, account_id);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
