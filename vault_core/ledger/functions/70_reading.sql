-- The last version of an account's row whose entry has a transaction id below `_bound`, found by halving, so that the cost is that of
-- some twenty look-ups however long the history is. Ids follow the time of booking closely, not strictly: a reader takes bounds
-- on both sides of its instant and looks at the entries between them (vault_core/ledger/as_of.py). An entry whose partition was
-- detached counts as old. `_from`: a version that is known to be below the bound, of an earlier search.
CREATE OR REPLACE FUNCTION ledger_version_before(_account bigint, _bound uuid, _from bigint DEFAULT 0)
RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    low bigint := _from;
    high bigint;
    newest bigint;
    stride bigint := 1;
    middle bigint;
    found_id uuid;
BEGIN
    SELECT version INTO newest FROM ledger_accounts WHERE id = _account;
    high := newest;
    -- From a known version on the answer is near: it is fenced in by strides that double, then found by halving.
    WHILE _from > 0 AND high = newest AND low + stride < newest LOOP
        SELECT e.transaction_id INTO found_id FROM ledger_entries e WHERE e.account_id = _account AND e.account_version = low + stride;
        IF found_id >= _bound THEN high := low + stride - 1; ELSE low := low + stride; stride := stride * 2; END IF;
    END LOOP;
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        SELECT e.transaction_id INTO found_id FROM ledger_entries e WHERE e.account_id = _account AND e.account_version = middle;
        IF found_id >= _bound THEN high := middle - 1; ELSE low := middle; END IF;
    END LOOP;
    RETURN low;
END $$;
