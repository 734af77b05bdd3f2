"""Double entry in integer cents, holds, seals, tariffs, charges."""

from alembic import op

from vault_core.database import run_sql

revision = "0003"
down_revision = "0002"

SQL = """
CREATE TABLE ledger_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner_id uuid REFERENCES partners,  -- null: the house's own
    code text NOT NULL,                   -- 'wallet', 'b2c_float', 'fees:system' ... (vault_core/ledger/chart.py)
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    currency text NOT NULL DEFAULT 'KES' CHECK (currency = 'KES'),
    balance_cents bigint NOT NULL DEFAULT 0,   -- debits less credits
    held_cents bigint NOT NULL DEFAULT 0 CHECK (held_cents >= 0),
    version bigint NOT NULL DEFAULT 0,         -- entries so far, gap-free
    UNIQUE NULLS NOT DISTINCT (partner_id, code)
);

-- A key is reserved in the transaction that posts under it; same key with another body is a conflict.
CREATE TABLE ledger_keys (
    partner_id uuid,                      -- null: the house
    key text NOT NULL,
    body_hash bytea NOT NULL,
    transaction_id uuid NOT NULL,
    UNIQUE NULLS NOT DISTINCT (partner_id, key)
);

CREATE TABLE ledger_transactions (
    id uuid NOT NULL PRIMARY KEY,         -- UUIDv7: a month is a range of ids
    partner_id uuid,
    kind text NOT NULL,                   -- 'disbursement_paid', 'disbursement_posted', 'charges', 'sms', 'collection', 'topup' ...
    reference text NOT NULL,              -- receipt, or our own id
    key text NOT NULL,
    description text NOT NULL DEFAULT '',
    effective_at timestamptz NOT NULL,    -- when it happened outside
    booked_at timestamptz NOT NULL,       -- when we wrote it
    reverses uuid
) PARTITION BY RANGE (id);
CREATE TABLE ledger_transactions_default PARTITION OF ledger_transactions DEFAULT;
CREATE INDEX ledger_transactions_reference ON ledger_transactions (partner_id, reference);
CREATE INDEX ledger_transactions_effective ON ledger_transactions (partner_id, effective_at);
CREATE INDEX ledger_transactions_reverses ON ledger_transactions (reverses) WHERE reverses IS NOT NULL;

CREATE TABLE ledger_entries (
    transaction_id uuid NOT NULL,
    leg smallint NOT NULL,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),  -- debit positive, credit negative
    balance_before_cents bigint NOT NULL,
    balance_after_cents bigint NOT NULL,
    account_version bigint NOT NULL,
    CHECK (balance_after_cents = balance_before_cents + amount_cents),
    PRIMARY KEY (transaction_id, leg)
) PARTITION BY RANGE (transaction_id);
CREATE TABLE ledger_entries_default PARTITION OF ledger_entries DEFAULT;
CREATE INDEX ledger_entries_by_account ON ledger_entries (account_id, account_version);

CREATE TABLE ledger_holds (
    id uuid PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    partner_id uuid,
    key text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'captured', 'released')),
    captured_cents bigint NOT NULL DEFAULT 0 CHECK (captured_cents BETWEEN 0 AND amount_cents),
    placed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    transaction_id uuid,                  -- of the capture
    UNIQUE NULLS NOT DISTINCT (partner_id, key),
    CHECK ((state = 'held') = (resolved_at IS NULL)),
    CHECK (state = 'captured' OR captured_cents = 0)
);
CREATE INDEX ledger_holds_open ON ledger_holds (account_id) WHERE state = 'held';

CREATE TABLE ledger_seals (
    number bigint PRIMARY KEY,
    first_transaction uuid NOT NULL,
    last_transaction uuid NOT NULL,
    transactions bigint NOT NULL,
    digest bytea NOT NULL,                -- of the sealed transactions
    chain bytea NOT NULL,                 -- of the seal before and this digest
    sealed_at timestamptz NOT NULL
);

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

-- History cannot be rewritten, by anybody who connects as the application and, short of dropping the trigger, by the owner.
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % refused; post a reversal instead', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_keys FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_seals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
REVOKE UPDATE, DELETE, TRUNCATE ON ledger_entries, ledger_transactions, ledger_keys, ledger_seals FROM vault_app;
REVOKE DELETE, TRUNCATE ON ledger_holds, ledger_accounts FROM vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
