"""Closed periods, holds that may expire."""

from alembic import op

from vault_core.database import run_sql

revision = "0010"
down_revision = "0009"

SQL = """
-- When it happened outside, if that lay in a closed period: effective_at is then the first instant of the open one.
ALTER TABLE ledger_transactions ADD COLUMN carried_from timestamptz CHECK (carried_from < effective_at);

-- Null: it ends by capture or release only. A hold for a service whose outside outcome may become Unknown never expires.
ALTER TABLE ledger_holds ADD COLUMN expires_at timestamptz CHECK (expires_at > placed_at);
ALTER TABLE ledger_holds DROP CONSTRAINT ledger_holds_state_check;
ALTER TABLE ledger_holds ADD CONSTRAINT ledger_holds_state_check CHECK (state IN ('held', 'captured', 'released', 'expired'));
DROP INDEX ledger_holds_key;
CREATE UNIQUE INDEX ledger_holds_key ON ledger_holds (partner_id, key) WHERE state IN ('held', 'captured');
CREATE INDEX ledger_holds_expiring ON ledger_holds (expires_at) WHERE state = 'held' AND expires_at IS NOT NULL;
DROP FUNCTION IF EXISTS ledger_hold(timestamptz, uuid[], uuid[], text[], text[], bigint[]);

-- What is effective before `closed_before` is final: the balances as of that instant are kept, and nothing may be posted there.
CREATE TABLE ledger_closings (
    number bigint PRIMARY KEY CHECK (number > 0),
    closed_before timestamptz NOT NULL UNIQUE,
    closed_at timestamptz NOT NULL CHECK (closed_at >= closed_before),
    closed_by text NOT NULL CHECK (closed_by <> ''),
    transactions bigint NOT NULL,         -- effective since the closing before
    debit_cents bigint NOT NULL           -- of the trial balance at that instant; the credits are the same
);
CREATE TABLE ledger_closing_balances (
    closing bigint NOT NULL REFERENCES ledger_closings,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    balance_cents bigint NOT NULL,        -- debits less credits of all entries effective before the closing
    PRIMARY KEY (closing, account_id)
);
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ledger_closings, ledger_closing_balances FROM vault_app;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_closings FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_closing_balances FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_closings FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_closing_balances FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
