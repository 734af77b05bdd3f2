-- Writes a price list and returns its id. An open list of the product that began before is ended where this one begins; `ended` is
-- the day that one began. What keeps lists whole are the triggers of tariffs and tariff_bands, whoever writes.
-- PV001: the list is malformed. PV002: another list or a charge is in the way.
CREATE OR REPLACE FUNCTION tariff_import(
    _now timestamptz, _by text, _provider text, _product text, _valid_from date, _valid_to date, _source text, _note text,
    _step_cents integer, _excise_rate integer, _excise_included boolean, _rounding text,
    _from bigint[], _to bigint[], _fee bigint[], _customer_fee bigint[], _rate integer[], _confirmed boolean[], _band_note text[],
    OUT id bigint, OUT ended date)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM tariff_lock(_provider, _product);
    UPDATE tariffs t SET valid_to = _valid_from
    WHERE t.provider = _provider AND t.product = _product AND t.valid_from < _valid_from AND t.valid_to IS NULL
      AND t.withdrawn_at IS NULL
    RETURNING t.valid_from INTO ended;
    INSERT INTO tariffs (provider, product, valid_from, valid_to, source, note, step_cents, excise_rate_basis_points,
                         excise_included, rounding, band_count, imported_by, imported_at)
    VALUES (_provider, _product, _valid_from, _valid_to, _source, _note, _step_cents, _excise_rate,
            _excise_included, _rounding, cardinality(_from), _by, _now) RETURNING tariffs.id INTO id;
    INSERT INTO tariff_bands (tariff_id, from_cents, to_cents, fee_cents, customer_fee_cents, rate_basis_points, confirmed, note)
    SELECT tariff_import.id, b.low, b.high, b.fee, b.customer_fee, b.rate, b.confirmed, b.note
    FROM unnest(_from, _to, _fee, _customer_fee, _rate, _confirmed, _band_note) WITH ORDINALITY
         AS b(low, high, fee, customer_fee, rate, confirmed, note, n) ORDER BY b.n;
    PERFORM tariff_check(tariff_import.id);
END $$;

-- Ends a list on `_valid_to` (null: until further notice). PV002: a charge of that day or later used it, or another list holds there.
CREATE OR REPLACE FUNCTION tariff_end(_provider text, _product text, _valid_from date, _valid_to date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    list bigint;
BEGIN
    PERFORM tariff_lock(_provider, _product);
    UPDATE tariffs SET valid_to = _valid_to
    WHERE provider = _provider AND product = _product AND valid_from = _valid_from AND withdrawn_at IS NULL RETURNING id INTO list;
    IF list IS NULL THEN
        RAISE EXCEPTION 'no % % list begins on %', _provider, _product, _valid_from USING ERRCODE = 'PV001';
    END IF;
    PERFORM tariff_check(list);
END $$;

-- Takes back a list that no charge used. The list that it ended holds on in its place; `resumed` is the day that one began.
CREATE OR REPLACE FUNCTION tariff_withdraw(_now timestamptz, _provider text, _product text, _valid_from date, OUT resumed date)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    gone tariffs;
BEGIN
    PERFORM tariff_lock(_provider, _product);
    UPDATE tariffs SET withdrawn_at = _now
    WHERE provider = _provider AND product = _product AND valid_from = _valid_from AND withdrawn_at IS NULL RETURNING * INTO gone;
    IF gone.id IS NULL THEN
        RAISE EXCEPTION 'no % % list begins on %', _provider, _product, _valid_from USING ERRCODE = 'PV001';
    END IF;
    UPDATE tariffs SET valid_to = gone.valid_to
    WHERE provider = _provider AND product = _product AND valid_to = _valid_from AND withdrawn_at IS NULL
    RETURNING valid_from INTO resumed;
END $$;

REVOKE ALL ON FUNCTION tariff_lock, tariff_check, tariff_import, tariff_end, tariff_withdraw FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tariff_lock, tariff_import, tariff_end, tariff_withdraw TO vault_app;
