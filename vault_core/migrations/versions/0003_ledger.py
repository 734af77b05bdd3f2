"""Double entry in integer cents, holds, seals, tariffs, charges: the tables and their guards.

The functions that write them are vault_core/ledger/functions/, put in place after the revisions (vault_core/schema.py).
"""

from alembic import op

from vault_core.database import run_sql

revision = "0003"
down_revision = "0002"

SQL = """
-- The chart of accounts: what may be posted to, by whom, and how many rows share a hot account (vault_core/ledger/chart.py).
CREATE TABLE ledger_chart (
    code text PRIMARY KEY,
    house boolean NOT NULL,               -- true: the house's own; false: each partner has one
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    holdable boolean NOT NULL DEFAULT false,
    shards smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64),
    CHECK (NOT holdable OR shards = 1)    -- cover can only be judged on one row
);
INSERT INTO ledger_chart (code, house, normal_side, holdable, shards) VALUES
    ('wallet',             false, 'credit', true,  1),
    ('b2c_float',          false, 'debit',  false, 1),
    ('disbursed_unposted', false, 'debit',  false, 1),
    ('loan_book',          false, 'debit',  false, 1),
    ('loan_charges',       false, 'credit', false, 1),
    ('c2b_float',          false, 'debit',  false, 1),
    ('collected_unposted', false, 'credit', false, 1),
    ('savings_book',       false, 'credit', false, 1),
    ('suspense',           false, 'credit', false, 1),
    ('bank:settlement',    true,  'debit',  false, 8),
    ('fees:mpesa',         true,  'credit', false, 8),
    ('fees:system',        true,  'credit', false, 8),
    ('fees:sms',           true,  'credit', false, 8),
    ('tax:excise',         true,  'credit', false, 8);

-- An account, or one shard of a house account that every partner's postings meet. Its balance is the sum of its shards.
CREATE TABLE ledger_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner_id uuid REFERENCES partners,  -- null: the house's own
    scope uuid NOT NULL GENERATED ALWAYS AS (coalesce(partner_id, '00000000-0000-0000-0000-000000000000')) STORED,
    code text NOT NULL REFERENCES ledger_chart,
    shard smallint NOT NULL DEFAULT 0,
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    currency text NOT NULL DEFAULT 'KES' CHECK (currency = 'KES'),
    balance_cents bigint NOT NULL DEFAULT 0,   -- debits less credits
    held_cents bigint NOT NULL DEFAULT 0 CHECK (held_cents >= 0),
    version bigint NOT NULL DEFAULT 0,         -- entries so far, gap-free
    UNIQUE (scope, code, shard)
) WITH (fillfactor = 30);                 -- rows change in place (HOT) on every posting

-- A key is reserved in the transaction that posts under it; same key with another body is a conflict.
CREATE TABLE ledger_keys (
    scope uuid NOT NULL,                  -- the partner; the nil UUID is the house
    key text NOT NULL,
    body_hash bytea NOT NULL,             -- of kind, reference, effective time, reversed transaction and legs
    transaction_id uuid NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE ledger_transactions (
    id uuid NOT NULL PRIMARY KEY,         -- UUIDv7: a month is a range of ids
    partner_id uuid,
    kind text NOT NULL CHECK (kind <> ''),  -- 'disbursement_paid', 'disbursement_posted', 'charges', 'sms', 'collection', 'topup' ...
    reference text NOT NULL,              -- receipt, or our own id
    key text NOT NULL CHECK (key <> ''),
    description text NOT NULL DEFAULT '',
    effective_at timestamptz NOT NULL,    -- when it happened outside
    booked_at timestamptz NOT NULL,       -- when we wrote it
    reverses uuid,
    written_by bigint NOT NULL            -- the database transaction that wrote it: seals are cut by it (ledger_seal)
) PARTITION BY RANGE (id);
CREATE TABLE ledger_transactions_default PARTITION OF ledger_transactions DEFAULT;
CREATE INDEX ledger_transactions_reference ON ledger_transactions (partner_id, reference);
CREATE INDEX ledger_transactions_effective ON ledger_transactions (partner_id, effective_at);
CREATE INDEX ledger_transactions_written_by ON ledger_transactions (written_by);

-- An original is reversed once: the partitioned table cannot carry that key, so it has its own.
CREATE TABLE ledger_reversals (
    original uuid PRIMARY KEY,
    reversal uuid NOT NULL UNIQUE
);

-- No foreign key to ledger_accounts: only ledger_post writes here, from account rows it has locked.
CREATE TABLE ledger_entries (
    transaction_id uuid NOT NULL,
    leg smallint NOT NULL,
    account_id bigint NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),  -- debit positive, credit negative
    balance_before_cents bigint NOT NULL,
    balance_after_cents bigint NOT NULL,
    account_version bigint NOT NULL CHECK (account_version > 0),
    CHECK (balance_after_cents = balance_before_cents + amount_cents),
    PRIMARY KEY (transaction_id, leg)
) PARTITION BY RANGE (transaction_id);
CREATE TABLE ledger_entries_default PARTITION OF ledger_entries DEFAULT;
CREATE INDEX ledger_entries_by_account ON ledger_entries (account_id, account_version);

CREATE TABLE ledger_holds (
    id uuid PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    partner_id uuid NOT NULL,
    key text NOT NULL CHECK (key <> ''),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'captured', 'released')),
    captured_cents bigint NOT NULL DEFAULT 0 CHECK (captured_cents BETWEEN 0 AND amount_cents),
    placed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    transaction_id uuid,                  -- of the capture
    CHECK ((state = 'held') = (resolved_at IS NULL)),
    CHECK ((state = 'captured') = (captured_cents > 0)),
    CHECK ((state = 'captured') = (transaction_id IS NOT NULL))
);
-- A released hold frees its key: a payout that failed for good is held for anew when it is tried again.
CREATE UNIQUE INDEX ledger_holds_key ON ledger_holds (partner_id, key) WHERE state <> 'released';
CREATE INDEX ledger_holds_open ON ledger_holds (account_id) WHERE state = 'held';

CREATE TABLE ledger_seals (
    number bigint PRIMARY KEY,
    from_write bigint NOT NULL,           -- covers written_by from here ...
    upto_write bigint NOT NULL,           -- ... to before here
    first_transaction uuid NOT NULL,
    last_transaction uuid NOT NULL,
    transactions bigint NOT NULL CHECK (transactions > 0),
    digest bytea NOT NULL,                -- of the sealed transactions
    chain bytea NOT NULL,                 -- of the seal before and this digest
    sealed_at timestamptz NOT NULL,
    CHECK (upto_write > from_write)
);

-- Added to the server's transaction ids, so that written_by keeps growing when a dump is restored on another server.
CREATE TABLE ledger_write_base (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    base bigint NOT NULL
);
INSERT INTO ledger_write_base (base) VALUES (0);

CREATE TABLE tariffs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,               -- 'safaricom', 'kra'
    product text NOT NULL,                -- 'b2c', 'b2c_withdrawal_paid', 'excise_fees'
    valid_from date NOT NULL,
    valid_to date,                        -- first day on which it no longer holds
    source text NOT NULL,
    UNIQUE (provider, product, valid_from),
    CHECK (valid_to IS NULL OR valid_to > valid_from)
);
CREATE TABLE tariff_bands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id bigint NOT NULL REFERENCES tariffs,
    from_cents bigint NOT NULL CHECK (from_cents >= 0),
    to_cents bigint NOT NULL,
    fee_cents bigint NOT NULL DEFAULT 0 CHECK (fee_cents >= 0),
    rate_basis_points integer NOT NULL DEFAULT 0 CHECK (rate_basis_points >= 0),
    confirmed boolean NOT NULL DEFAULT true,
    CHECK (to_cents >= from_cents),
    UNIQUE (tariff_id, from_cents)
);

-- One line of one transaction's charges.
CREATE TABLE charge_lines (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    subject_kind text NOT NULL CHECK (subject_kind IN ('disbursement', 'message')),
    subject_id uuid NOT NULL,
    line text NOT NULL CHECK (line IN ('mpesa_fee', 'system_fee', 'excise', 'sms')),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    tariff_band_id bigint REFERENCES tariff_bands,
    charged_at timestamptz,               -- null while only held
    transaction_id uuid,
    UNIQUE (subject_kind, subject_id, line)
);
CREATE INDEX charge_lines_by_day ON charge_lines (partner_id, charged_at);

-- Once per shortage and wallet: the alert that was sent and when the shortage ended.
CREATE TABLE wallet_alerts (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('short', 'low')),
    balance_cents bigint NOT NULL,
    raised_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX wallet_alerts_one_open ON wallet_alerts (partner_id, kind) WHERE ended_at IS NULL;

-- A tariff is added and ended, never changed: charges point at its bands.
REVOKE UPDATE, DELETE, TRUNCATE ON tariffs, tariff_bands FROM vault_app;
GRANT UPDATE (valid_to) ON tariffs TO vault_app;
"""

GUARDS = """
-- The application writes through vault_core/ledger/functions/ and in no other way. Partitions get the same in vault_core/schema.py.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ledger_chart, ledger_accounts, ledger_keys, ledger_transactions, ledger_transactions_default,
    ledger_reversals, ledger_entries, ledger_entries_default, ledger_holds, ledger_seals, ledger_write_base FROM vault_app;

-- History cannot be rewritten, by the application at all and, short of dropping the trigger, by the owner.
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % refused; post a reversal instead', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_keys FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_reversals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_seals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_transactions FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_keys FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_seals FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Whoever inserts entries, all of a transaction's come in one statement and sum to zero.
CREATE FUNCTION ledger_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced record;
BEGIN
    SELECT transaction_id, sum(amount_cents) AS cents INTO unbalanced
    FROM written GROUP BY transaction_id HAVING sum(amount_cents) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % does not sum to zero: % cents', unbalanced.transaction_id, unbalanced.cents USING ERRCODE = 'PV001';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sums_to_zero AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_sums_to_zero();
"""


def upgrade() -> None:
    for part in (SQL, GUARDS):
        run_sql(op.get_bind(), part)
