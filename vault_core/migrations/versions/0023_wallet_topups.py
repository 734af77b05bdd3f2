"""A top-up above a limit waits for a second person, as adjustments do."""

from alembic import op

from vault_core.database import run_sql

revision = "0023"
down_revision = "0022"

SQL = """
ALTER TABLE wallet_adjustments DROP CONSTRAINT wallet_adjustments_kind_check;
ALTER TABLE wallet_adjustments ADD CONSTRAINT wallet_adjustments_kind_check
    CHECK (kind IN ('correction', 'reversal', 'topup') AND (kind <> 'topup' OR amount_cents > 0));

-- A top-up keeps the key of the bank's reference, so that it counts once however it came to be recorded.
CREATE OR REPLACE FUNCTION wallet_adjustment_is_decided_once() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'proposed' THEN
        RAISE EXCEPTION 'adjustment % is % already: propose another one instead', OLD.id, OLD.state USING ERRCODE = 'PV002';
    END IF;
    IF NEW.state = 'approved' AND NEW.amount_cents IS DISTINCT FROM (
        SELECT -sum(e.amount_cents) FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.partner_id = NEW.partner_id AND a.code = 'wallet'
        WHERE t.id = NEW.transaction_id
          AND t.key = CASE NEW.kind WHEN 'topup' THEN 'topup:' || NEW.reference ELSE 'adjustment:' || NEW.id END) THEN
        RAISE EXCEPTION 'adjustment % is not posted as it was proposed', NEW.id USING ERRCODE = 'PV001';
    END IF;
    RETURN NEW;
END $$;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
