"""System fees by partner, service and product; charges of collections; what M-Pesa says it took, for the tariff audit."""

from alembic import op

from vault_core.database import run_sql

revision = "0014"
down_revision = "0013"

FEES = """
-- What we charge a partner for one transaction of a service: flat + rate of the amount, at least min, at most max. A product's own fee
-- goes before that of the service. From valid_from to before valid_to; valid_to = valid_from: taken back before it was used.
CREATE TABLE system_fees (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    service text NOT NULL CHECK (service IN ('disbursement', 'collection')),
    product_id bigint,                    -- null: every product. A collection is charged before its product is known
    flat_cents bigint NOT NULL DEFAULT 0 CHECK (flat_cents >= 0),
    rate_basis_points integer NOT NULL DEFAULT 0 CHECK (rate_basis_points BETWEEN 0 AND 10000),
    min_cents bigint NOT NULL DEFAULT 0 CHECK (min_cents >= 0),
    max_cents bigint CHECK (max_cents >= min_cents),
    valid_from date NOT NULL,
    valid_to date CHECK (valid_to >= valid_from),
    set_by text NOT NULL CHECK (set_by <> ''),
    set_at timestamptz NOT NULL,
    CHECK (product_id IS NULL OR service = 'disbursement')
);
CREATE INDEX system_fees_of_partner ON system_fees (partner_id, service, product_id, valid_from);

ALTER TABLE charge_lines
    DROP CONSTRAINT charge_lines_subject_kind_check,
    ADD CONSTRAINT charge_lines_subject_kind_check CHECK (subject_kind IN ('disbursement', 'message', 'collection')),
    ADD COLUMN system_fee_id uuid REFERENCES system_fees,
    ADD CONSTRAINT charge_lines_system_fee_check CHECK (system_fee_id IS NULL OR line = 'system_fee');

-- The one fee a partner had becomes its first; charges of the same amount point at it.
INSERT INTO system_fees (id, partner_id, service, flat_cents, valid_from, set_by, set_at)
SELECT gen_random_uuid(), p.id, 'disbursement', p.system_fee_cents,
       least(p.created_at, (SELECT min(coalesce(l.charged_at, p.created_at)) FROM charge_lines l WHERE l.partner_id = p.id))::timestamptz
           AT TIME ZONE 'Africa/Nairobi',
       'system:upgrade', p.created_at
FROM partners p WHERE p.system_fee_cents > 0;
UPDATE charge_lines l SET system_fee_id = f.id FROM system_fees f
WHERE f.partner_id = l.partner_id AND l.line = 'system_fee' AND l.subject_kind = 'disbursement' AND l.amount_cents = f.flat_cents;

-- Who pays M-Pesa what (docs/partners.md). c2b_bouquet and b2c_tariff are what the short codes are on at Safaricom.
ALTER TABLE partners
    DROP COLUMN system_fee_cents,
    ADD COLUMN b2c_tariff text NOT NULL DEFAULT 'b2c' CHECK (b2c_tariff IN ('b2c', 'b2c_withdrawal_paid')),
    ADD COLUMN c2b_bouquet text NOT NULL DEFAULT 'business' CHECK (c2b_bouquet IN ('business', 'mgao', 'customer')),
    ADD COLUMN c2b_fee_paid_by text NOT NULL DEFAULT 'short_code' CHECK (c2b_fee_paid_by IN ('wallet', 'short_code'));
"""

GUARDS = """
-- Of a fee only its end moves, and never to a day whose charges (in Nairobi) used it or before. Two fees for the same thing never hold
-- on one day.
CREATE FUNCTION system_fee_used_since(_fee uuid, _partner uuid, _since timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT max(coalesce(greatest(l.charged_at, uuid_extract_timestamp(l.id)), 'infinity'))
    FROM (SELECT id, charged_at, system_fee_id FROM public.charge_lines
          WHERE id >= (lpad(to_hex((extract(epoch FROM _since) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
          UNION ALL
          SELECT id, charged_at, system_fee_id FROM public.charge_lines WHERE partner_id = _partner AND charged_at >= _since) AS l
    WHERE l.system_fee_id = _fee
$$;
CREATE FUNCTION system_fee_only_ends() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    used timestamptz;
BEGIN
    IF TG_OP <> 'UPDATE' OR to_jsonb(NEW) - 'valid_to' <> to_jsonb(OLD) - 'valid_to' THEN
        RAISE EXCEPTION 'system fees are never changed: % refused; set the next fee instead', TG_OP USING ERRCODE = 'PV002';
    END IF;
    PERFORM FROM public.system_fees WHERE id = OLD.id FOR UPDATE;  -- waits for charges that are being written
    used := public.system_fee_used_since(OLD.id, OLD.partner_id, NEW.valid_to::timestamp AT TIME ZONE 'Africa/Nairobi');
    IF used IS NOT NULL THEN
        RAISE EXCEPTION 'the fee that holds since % cannot end on %: charges of % used it; choose a later day',
            OLD.valid_from, NEW.valid_to, (used AT TIME ZONE 'Africa/Nairobi')::date USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_ends BEFORE UPDATE OR DELETE ON system_fees FOR EACH ROW EXECUTE FUNCTION system_fee_only_ends();
CREATE FUNCTION system_fee_is_alone() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    other public.system_fees;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('system fees ' || NEW.partner_id, 0));
    SELECT * INTO other FROM public.system_fees o
    WHERE o.partner_id = NEW.partner_id AND o.service = NEW.service AND o.product_id IS NOT DISTINCT FROM NEW.product_id
      AND o.id <> NEW.id AND daterange(o.valid_from, o.valid_to) && daterange(NEW.valid_from, NEW.valid_to) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the fee from % overlaps the one from %: the earlier must end (valid_to) where the later begins',
            NEW.valid_from, other.valid_from USING ERRCODE = 'PV002';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER is_alone AFTER INSERT OR UPDATE ON system_fees DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION system_fee_is_alone();
CREATE FUNCTION system_fee_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'system fees are never removed' USING ERRCODE = 'PV002';
END $$;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON system_fees FOR EACH STATEMENT EXECUTE FUNCTION system_fee_is_kept();
REVOKE ALL ON system_fees FROM vault_app;
GRANT SELECT, INSERT, UPDATE (valid_to) ON system_fees TO vault_app;
"""

AUDIT = """
-- What M-Pesa said about its fee for a payout: the charges-paid balance of a B2C result, or the fee named by a status answer.
CREATE TABLE mpesa_fee_readings (
    attempt_id uuid NOT NULL,
    said_by text NOT NULL CHECK (said_by IN ('result', 'status_answer')),
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    receipt text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    paid_at timestamptz NOT NULL,
    charges_balance_cents bigint,         -- of the short code's charges-paid account after the payout; falls by each fee
    fee_cents bigint,                     -- what M-Pesa took; of a result, once the audit has read it from the balances
    tariff_band_id bigint REFERENCES tariff_bands,  -- of the price list of that day, once audited; null if it has none
    judged_at timestamptz,
    event_id uuid NOT NULL,
    PRIMARY KEY (attempt_id, said_by),
    CHECK (CASE said_by WHEN 'result' THEN charges_balance_cents IS NOT NULL ELSE fee_cents IS NOT NULL END)
);
CREATE INDEX mpesa_fee_readings_in_order ON mpesa_fee_readings (short_code, paid_at);
CREATE INDEX mpesa_fee_readings_to_judge ON mpesa_fee_readings (paid_at) WHERE judged_at IS NULL;
CREATE INDEX mpesa_fee_readings_by_band ON mpesa_fee_readings (partner_id, tariff_band_id, paid_at) WHERE tariff_band_id IS NOT NULL;
"""


def upgrade() -> None:
    for part in (FEES, GUARDS, AUDIT):
        run_sql(op.get_bind(), part)
