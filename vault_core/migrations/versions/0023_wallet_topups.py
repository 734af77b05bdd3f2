"""A top-up above a limit waits for a second person, as adjustments do. What a text costs is a dated fee like the others."""

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

ALTER TABLE system_fees
    DROP CONSTRAINT system_fees_service_check,
    ADD CONSTRAINT system_fees_service_check CHECK (service IN ('disbursement', 'collection', 'sms')),
    ADD CONSTRAINT system_fees_sms_check  -- a price a part, nothing else
        CHECK (service <> 'sms' OR (rate_basis_points = 0 AND min_cents = 0 AND max_cents IS NULL));
ALTER TABLE charge_lines
    DROP CONSTRAINT charge_lines_system_fee_check,
    ADD CONSTRAINT charge_lines_system_fee_check CHECK (system_fee_id IS NULL OR line IN ('system_fee', 'sms'));
INSERT INTO system_fees (id, partner_id, service, flat_cents, valid_from, set_by, set_at)
SELECT gen_random_uuid(), p.id, 'sms', p.sms_price_cents, (p.created_at AT TIME ZONE 'Africa/Nairobi')::date, 'system:upgrade', p.created_at
FROM partners p;
-- What is charged stays as it was charged, without a row to point at; what is still to be sent gets its row.
ALTER TABLE messages ADD COLUMN system_fee_id uuid REFERENCES system_fees;
UPDATE messages m SET system_fee_id = f.id FROM system_fees f
WHERE f.partner_id = m.partner_id AND f.service = 'sms' AND m.state IN ('queued', 'unknown');
ALTER TABLE partners DROP COLUMN sms_price_cents;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
