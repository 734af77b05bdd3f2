-- The last version of an account's row whose entry has a transaction id below `_bound`, found by halving, so that the cost is that of
-- some twenty look-ups however long the history is. Ids follow the time of booking closely, not strictly: a reader takes bounds
-- on both sides of its instant and looks at the entries between them (vault_core/ledger/as_of.py). An entry whose partition was
-- detached counts as old.
CREATE OR REPLACE FUNCTION ledger_version_before(_account bigint, _bound uuid)
RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
    found_id uuid;
BEGIN
    SELECT version INTO high FROM ledger_accounts WHERE id = _account;
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        SELECT e.transaction_id INTO found_id FROM ledger_entries e WHERE e.account_id = _account AND e.account_version = middle;
        IF found_id >= _bound THEN high := middle - 1; ELSE low := middle; END IF;
    END LOOP;
    RETURN low;
END $$;
