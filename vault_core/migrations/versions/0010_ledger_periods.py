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
ALTER TABLE ledger_holds ADD CONSTRAINT ledger_holds_expired_by_their_time CHECK (state <> 'expired' OR expires_at IS NOT NULL AND resolved_at >= expires_at);
DROP FUNCTION IF EXISTS ledger_hold(timestamptz, uuid[], uuid[], text[], text[], bigint[]);
DROP FUNCTION IF EXISTS ledger_post(timestamptz, uuid[], uuid[], text[], text[], text[], text[], timestamptz[], uuid[], uuid[],
                                    integer[], text[], bigint[]);
-- A hold ends once, and no history of it goes, whoever writes.
CREATE FUNCTION ledger_hold_ends_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'hold % is % already', OLD.id, OLD.state USING ERRCODE = 'PV002';
END $$;
CREATE TRIGGER ends_once BEFORE UPDATE ON ledger_holds FOR EACH ROW WHEN (OLD.state <> 'held') EXECUTE FUNCTION ledger_hold_ends_once();
CREATE TRIGGER append_only BEFORE DELETE ON ledger_holds FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
-- No account ever goes, and only ledger_hold makes holds, from account rows it has locked: a foreign key would look each up once more.
ALTER TABLE ledger_holds DROP CONSTRAINT ledger_holds_account_id_fkey;
CREATE TRIGGER append_only BEFORE DELETE ON ledger_accounts FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_accounts FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_holds FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

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

-- Whoever inserts it, no transaction is effective in a closed period, nor in one that closes before it is committed.
CREATE FUNCTION ledger_period_is_open() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    open_from CONSTANT timestamptz := ledger_enter_open_period();
    early record;
BEGIN
    SELECT id, effective_at INTO early FROM written WHERE effective_at < open_from LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % is effective at %, and everything before % is closed', early.id, early.effective_at, open_from
            USING ERRCODE = 'PV003';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER period_is_open AFTER INSERT ON ledger_transactions REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_period_is_open();

-- The statement triggers of a partitioned table do not fire for who writes to a partition past it: partitions get them too.
CREATE FUNCTION ledger_guard_partition(parent text, name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- Default privileges would let the application write past the ledger's functions (revision 0003).
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.%I FROM vault_app', name);
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_is_append_only()',
                   name);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON public.%I REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.%I()',
                   CASE parent WHEN 'ledger_entries' THEN 'sums_to_zero' ELSE 'period_is_open' END, name,
                   CASE parent WHEN 'ledger_entries' THEN 'ledger_sums_to_zero' ELSE 'ledger_period_is_open' END);
END $$;
REVOKE EXECUTE ON FUNCTION ledger_guard_partition FROM PUBLIC;
SELECT ledger_guard_partition(parent.relname::text, partition.relname::text)
FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class partition ON partition.oid = inhrelid
WHERE parent.relname IN ('ledger_transactions', 'ledger_entries') AND parent.relkind = 'p' AND partition.relkind = 'r';

CREATE OR REPLACE FUNCTION cut_partition(parent text, name text, low uuid, high uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
    key text;
    occupied boolean;
BEGIN
    IF parent NOT IN ('inbound_events', 'ledger_transactions', 'ledger_entries') OR name !~ ('^' || parent || '_[0-9]{6,8}$') THEN
        RAISE EXCEPTION '% is no partition of ours', name;
    END IF;
    IF to_regclass('public.' || quote_ident(name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Rows that came before their partition stay where they are: PostgreSQL refuses a partition whose rows the default one holds.
    key := CASE parent WHEN 'ledger_entries' THEN 'transaction_id' ELSE 'id' END;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %I >= $1 AND %I < $2)', parent || '_default', key, key)
        INTO occupied USING low, high;
    IF occupied THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, parent, low, high);
    IF parent <> 'inbound_events' THEN
        PERFORM ledger_guard_partition(parent, name);
    END IF;
    RETURN true;
END $$;

-- Closings and balances as of an instant look for what was effective in a span, of whatever partner.
CREATE INDEX ledger_transactions_by_time ON ledger_transactions USING brin (effective_at) WITH (autosummarize = on);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
