"""Cutting partitions ahead of time, by the application too, which may not create tables otherwise."""

from alembic import op

from vault_core.database import run_sql

revision = "0009"
down_revision = "0008"

SQL = """
-- Runs as the owner. Names and bounds come from vault_core/partitions.py; what may be cut is said here.
CREATE FUNCTION cut_partition(parent text, name text, low uuid, high uuid) RETURNS boolean
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
    -- Default privileges would let the application write past the ledger's functions (revision 0003).
    IF parent <> 'inbound_events' THEN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %I FROM vault_app', name);
    END IF;
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION cut_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cut_partition TO vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
