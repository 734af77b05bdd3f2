"""Price lists that the database itself keeps whole, and those that are shipped.

What is shipped stands here as it was shipped; vault_core/wallets/price_lists/ holds the same lists as files, with their sources.
"""

from alembic import op

from vault_core.database import run_sql

revision = "0013"
down_revision = "0012"

COLUMNS = """
ALTER TABLE tariffs
    ADD COLUMN excise_rate_basis_points integer NOT NULL DEFAULT 0 CHECK (excise_rate_basis_points BETWEEN 0 AND 10000),
    ADD COLUMN excise_included boolean NOT NULL DEFAULT false,   -- the fees carry their excise inside
    ADD COLUMN rounding text NOT NULL DEFAULT 'half_up_cent' CHECK (rounding IN ('half_up_cent', 'half_up_shilling', 'up_shilling')),
    ADD COLUMN step_cents smallint NOT NULL DEFAULT 100 CHECK (step_cents IN (1, 100)),  -- amounts are whole shillings, or cents
    ADD COLUMN note text NOT NULL DEFAULT '',
    ADD COLUMN band_count smallint NOT NULL DEFAULT 1 CHECK (band_count > 0),  -- a list never gains or loses a band
    ADD COLUMN imported_by text NOT NULL DEFAULT 'system:shipped' CHECK (imported_by <> ''),
    ADD COLUMN imported_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN withdrawn_at timestamptz,  -- taken back before any charge used it: kept, and no longer counted
    DROP CONSTRAINT tariffs_provider_product_valid_from_key;
CREATE UNIQUE INDEX tariffs_one_beginning ON tariffs (provider, product, valid_from) WHERE withdrawn_at IS NULL;
ALTER TABLE tariff_bands
    ADD COLUMN customer_fee_cents bigint NOT NULL DEFAULT 0 CHECK (customer_fee_cents >= 0),  -- what the customer pays besides
    ADD COLUMN note text NOT NULL DEFAULT '';
"""

# Lists that stand already, upgraded without a change of price. Where two of one product held on a day, the later one did.
UPGRADE = """
UPDATE tariffs t SET valid_to = later.valid_from
FROM (SELECT id, lead(valid_from) OVER (PARTITION BY provider, product ORDER BY valid_from) AS valid_from FROM tariffs) AS later
WHERE later.id = t.id AND (t.valid_to IS NULL OR t.valid_to > later.valid_from) AND later.valid_from IS NOT NULL;
UPDATE tariffs t SET band_count = (SELECT greatest(count(*), 1) FROM tariff_bands b WHERE b.tariff_id = t.id);
UPDATE tariffs SET source = 'not stated' WHERE source = '';
UPDATE tariffs t SET step_cents = 1 WHERE EXISTS (
    SELECT FROM tariff_bands b WHERE b.tariff_id = t.id AND (b.from_cents % 100 <> 0 OR b.to_cents % 100 <> 0))
    OR t.provider = 'kra';
UPDATE tariffs SET excise_rate_basis_points = 1500, excise_included = true
WHERE provider = 'safaricom' AND product IN ('b2c', 'b2c_withdrawal_paid') AND valid_from = DATE '2023-08-01';
UPDATE tariff_bands SET note = 'no source states it' WHERE NOT confirmed;
UPDATE tariff_bands b SET note = 'the form stops at 150,000, though 250,000 may be paid since: the last band carried on'
FROM tariffs t WHERE t.id = b.tariff_id AND t.provider = 'safaricom' AND NOT b.confirmed;

-- No source states the excise after June 2025. The row that is in force keeps its id, since charges point at it, and is marked;
-- the years that are stated become a list of their own.
DO $$
DECLARE
    in_force bigint;
    stated bigint;
    statement_of_the_rate text;
BEGIN
    UPDATE tariffs SET valid_from = DATE '2025-07-01'
    WHERE provider = 'kra' AND product = 'excise_fees' AND valid_from = DATE '2023-07-01' AND valid_to IS NULL
    RETURNING id, source INTO in_force, statement_of_the_rate;
    IF NOT FOUND THEN RETURN; END IF;
    UPDATE tariffs SET source = '15 % as last stated, by the budget statement of 2024-06-13' WHERE id = in_force;
    UPDATE tariff_bands SET confirmed = false, note = 'no source states the rate after June 2025: 15 % carried on'
    WHERE tariff_id = in_force;
    INSERT INTO tariffs (provider, product, valid_from, valid_to, source, step_cents)
    VALUES ('kra', 'excise_fees', DATE '2023-07-01', DATE '2025-07-01', statement_of_the_rate, 1) RETURNING id INTO stated;
    INSERT INTO tariff_bands (tariff_id, from_cents, to_cents, rate_basis_points) VALUES (stated, 0, 9000000000000000, 1500);
END $$;

ALTER TABLE tariffs ADD CONSTRAINT tariffs_source_check CHECK (source <> '');
ALTER TABLE tariff_bands ADD CONSTRAINT tariff_bands_unconfirmed_says_why CHECK (confirmed OR note <> '');
"""

GUARDS = """
-- One change of a product's lists at a time.
CREATE FUNCTION tariff_lock(_provider text, _product text) RETURNS void LANGUAGE sql
AS 'SELECT pg_advisory_xact_lock(hashtextextended(''tariff '' || _provider || '' '' || _product, 0))';

-- A list is whole when its bands, as many as it says, follow each other by one step and no other list of the product holds with it.
-- PV001: the list is malformed. PV002: it is in the way of another.
CREATE FUNCTION tariff_check(_tariff bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    list public.tariffs;
    other public.tariffs;
    band record;
    bands integer := 0;
    expected bigint;
BEGIN
    SELECT * INTO list FROM public.tariffs WHERE id = _tariff;
    IF list.withdrawn_at IS NOT NULL THEN RETURN; END IF;
    PERFORM public.tariff_lock(list.provider, list.product);
    SELECT * INTO other FROM public.tariffs o
    WHERE o.provider = list.provider AND o.product = list.product AND o.id <> list.id AND o.withdrawn_at IS NULL
      AND daterange(o.valid_from, o.valid_to) && daterange(list.valid_from, list.valid_to) ORDER BY o.valid_from LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% % from % to % overlaps the list from % to %: the earlier must end (valid_to) where the later begins', list.provider, list.product, list.valid_from,
            coalesce(list.valid_to::text, 'further notice'), other.valid_from, coalesce(other.valid_to::text, 'further notice') USING ERRCODE = 'PV002';
    END IF;
    FOR band IN SELECT * FROM public.tariff_bands WHERE tariff_id = _tariff ORDER BY from_cents, id LOOP
        bands := bands + 1;
        IF expected IS NOT NULL AND band.from_cents <> expected THEN
            RAISE EXCEPTION '% % of %: band % begins at % cents, not at %: bands follow each other without gap or overlap',
                list.provider, list.product, list.valid_from, bands, band.from_cents, expected USING ERRCODE = 'PV001';
        END IF;
        IF band.from_cents % list.step_cents <> 0 OR band.to_cents % list.step_cents <> 0 THEN
            RAISE EXCEPTION '% % of %: band % has cents, and its amounts are whole shillings',
                list.provider, list.product, list.valid_from, bands USING ERRCODE = 'PV001';
        END IF;
        IF list.rounding <> 'half_up_cent' AND (band.fee_cents % 100 <> 0 OR band.customer_fee_cents % 100 <> 0) THEN
            RAISE EXCEPTION '% % of %: a fee of band % has cents, and it rounds to shillings',
                list.provider, list.product, list.valid_from, bands USING ERRCODE = 'PV001';
        END IF;
        expected := band.to_cents + list.step_cents;
    END LOOP;
    IF bands <> list.band_count THEN
        RAISE EXCEPTION '% % of % has % bands and says %: a list never gains or loses one',
            list.provider, list.product, list.valid_from, bands, list.band_count USING ERRCODE = 'PV001';
    END IF;
END $$;
CREATE FUNCTION tariff_is_whole() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM public.tariff_check(CASE TG_TABLE_NAME WHEN 'tariffs' THEN (to_jsonb(NEW) ->> 'id')::bigint
                                                   ELSE (to_jsonb(NEW) ->> 'tariff_id')::bigint END);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER is_whole AFTER INSERT OR UPDATE ON tariffs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tariff_is_whole();
CREATE CONSTRAINT TRIGGER is_whole AFTER INSERT ON tariff_bands DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tariff_is_whole();

-- The latest charge that used a list and was quoted (the time of its id) or taken at `_since` or later; null if there is none. Read by
-- the ids and by partner and day, so that it costs as much as there are charges since then.
CREATE FUNCTION tariff_used_since(_tariff bigint, _since timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT max(coalesce(greatest(l.charged_at, uuid_extract_timestamp(l.id)), 'infinity'))
    FROM (SELECT id, charged_at, tariff_band_id FROM public.charge_lines
          WHERE id >= (lpad(to_hex((extract(epoch FROM _since) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
          UNION ALL
          SELECT c.id, c.charged_at, c.tariff_band_id FROM public.partners p
          JOIN public.charge_lines c ON c.partner_id = p.id AND c.charged_at >= _since) AS l
    JOIN public.tariff_bands b ON b.id = l.tariff_band_id WHERE b.tariff_id = _tariff
$$;

-- Of a list only its end moves, and only while no charge of that day (in Nairobi) or later used it. A list no charge used may be
-- withdrawn.
CREATE FUNCTION tariff_only_ends() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    used timestamptz;
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD.withdrawn_at IS NOT NULL
       OR to_jsonb(NEW) - ARRAY['valid_to', 'withdrawn_at'] <> to_jsonb(OLD) - ARRAY['valid_to', 'withdrawn_at'] THEN
        RAISE EXCEPTION 'price lists are never changed: % refused; import the next list instead', TG_OP USING ERRCODE = 'PV002';
    END IF;
    PERFORM FROM public.tariff_bands WHERE tariff_id = OLD.id FOR UPDATE;  -- waits for charges that are being written
    IF NEW.withdrawn_at IS NOT NULL AND EXISTS (
        SELECT FROM public.charge_lines l JOIN public.tariff_bands b ON b.id = l.tariff_band_id WHERE b.tariff_id = OLD.id) THEN
        RAISE EXCEPTION '% % of % cannot be withdrawn: charges used it', OLD.provider, OLD.product, OLD.valid_from USING ERRCODE = 'PV002';
    END IF;
    used := public.tariff_used_since(OLD.id, NEW.valid_to::timestamp AT TIME ZONE 'Africa/Nairobi');
    IF used IS NOT NULL THEN
        RAISE EXCEPTION '% % of % cannot end on %: charges of % used it; choose a later day', OLD.provider, OLD.product, OLD.valid_from,
            NEW.valid_to, (used AT TIME ZONE 'Africa/Nairobi')::date USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_ends BEFORE UPDATE OR DELETE ON tariffs FOR EACH ROW EXECUTE FUNCTION tariff_only_ends();
CREATE FUNCTION tariff_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'price lists are never changed: % of % refused; import the next list instead', TG_OP, TG_TABLE_NAME USING ERRCODE = 'PV002';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tariff_bands FOR EACH ROW EXECUTE FUNCTION tariff_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tariffs FOR EACH STATEMENT EXECUTE FUNCTION tariff_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON tariff_bands FOR EACH STATEMENT EXECUTE FUNCTION tariff_is_append_only();

-- The application writes through vault_core/wallets/functions/ and in no other way.
REVOKE ALL ON tariffs, tariff_bands FROM vault_app;
GRANT SELECT ON tariffs, tariff_bands TO vault_app;
REVOKE ALL ON FUNCTION tariff_lock, tariff_check, tariff_is_whole, tariff_used_since, tariff_only_ends, tariff_is_append_only FROM PUBLIC;
"""

_C2B_SOURCE = 'money.ke "Mpesa Paybill Charges 2024"; the same figures at convertksh.xyz 2025. January to July 2023 they were lower (jitimu.com 2022-12-31; tuko.co.ke 2023-07)'
_C2B_NOTE = (
    "No source states the day of August 2023 on which they began. Some pages swap the names of the Business and Customer bouquets; "
    "other figures above 5,000 (45, 55, 70 ... 250) are in circulation. M-Pesa's own statement decides."
)
# Shillings, each band up to and with: total fee, the customer's part under Mgao. The first begins at 0.
_C2B_BANDS = (
    (100, 0, 0),
    (500, 5, 5),
    (1_000, 10, 10),
    (1_500, 15, 10),
    (2_500, 20, 13),
    (3_500, 25, 16),
    (5_000, 34, 16),
    (7_500, 42, 17),
    (10_000, 48, 18),
    (15_000, 57, 18),
    (20_000, 62, 19),
    (25_000, 67, 20),
    (30_000, 72, 20),
    (35_000, 83, 21),
    (40_000, 99, 23),
    (45_000, 103, 23),
    (250_000, 108, 24),
)


def _c2b() -> str:
    """The three lists of the pay bill: Business bouquet (the customer pays), Mgao (both), Customer bouquet (the business)."""
    bands = []
    low = 0
    for high, total, mgao in _C2B_BANDS:
        for product, customer in (("c2b_business", total), ("c2b_mgao", mgao), ("c2b_customer", 0)):
            bands.append(f"('{product}', {low}, {high * 100}, {(total - customer) * 100}, {customer * 100})")
        low = high * 100 + 1
    lists = ", ".join(
        f"('safaricom', '{product}', DATE '2023-08-01', $${_C2B_SOURCE}$$, $${_C2B_NOTE}$$, 1, 1500, true, {len(_C2B_BANDS)})"
        for product in ("c2b_business", "c2b_mgao", "c2b_customer")
    )
    return f"""
        INSERT INTO tariffs (provider, product, valid_from, source, note, step_cents, excise_rate_basis_points, excise_included, band_count)
        VALUES {lists};
        INSERT INTO tariff_bands (tariff_id, from_cents, to_cents, fee_cents, customer_fee_cents)
        SELECT t.id, b.low, b.high, b.fee, b.customer
        FROM (VALUES {", ".join(bands)}) AS b(product, low, high, fee, customer) JOIN tariffs t ON t.product = b.product
        WHERE t.valid_from = DATE '2023-08-01';
        SET CONSTRAINTS ALL IMMEDIATE;
        SET CONSTRAINTS ALL DEFERRED;
        """


def upgrade() -> None:
    for part in (COLUMNS, UPGRADE, GUARDS, _c2b()):
        run_sql(op.get_bind(), part)
