-- The first instant that may be posted to: everything before it is closed.
CREATE OR REPLACE FUNCTION ledger_open_from() RETURNS timestamptz LANGUAGE sql STABLE
RETURN (SELECT coalesce(max(closed_before), '-infinity') FROM ledger_closings);

-- The same for who is about to post: no period closes until the caller's transaction ends. Postings share the lock, a closing has it
-- alone. The snapshot of a REPEATABLE READ transaction may be older than the last closing; then it fails to serialise, and is tried anew.
CREATE OR REPLACE FUNCTION ledger_enter_open_period() RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7266331003);
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        PERFORM FROM ledger_write_base FOR SHARE;
    END IF;
    RETURN ledger_open_from();
END $$;

-- What entries effective in [_from, _upto) move, by account row, of those that were written in [_from_write, _upto_write).
CREATE OR REPLACE FUNCTION ledger_moved(_from timestamptz, _upto timestamptz, _from_write bigint, _upto_write bigint)
RETURNS TABLE (account_id bigint, cents bigint, transactions bigint) LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT e.account_id, sum(e.amount_cents)::bigint, count(*) FILTER (WHERE e.leg = 1)
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
    WHERE t.effective_at >= _from AND t.effective_at < _upto AND t.written_by >= _from_write AND t.written_by < _upto_write
    GROUP BY e.account_id
$$;

-- Closes everything before `_before` and returns the closing's number. PV001: that instant is in the future. PV002: it is closed already.
-- The long sum is taken while postings go on: of what database transactions wrote that have all ended. Postings wait only while the
-- few are summed that were written meanwhile.
CREATE OR REPLACE FUNCTION ledger_close(_now timestamptz, _before timestamptz, _by text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    the_last_write CONSTANT bigint := 9223372036854775807;
    former ledger_closings;
    opened timestamptz;
    settled bigint;
    moved record;
    late record;
    next_number bigint;
    accounts bigint[];
    balances bigint[];
    debits bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        RAISE EXCEPTION 'a period is closed by a READ COMMITTED transaction, which sees all that was posted' USING ERRCODE = 'PV001';
    END IF;
    -- Nobody can open it again, so the server's own clock has a say beside the caller's.
    IF _before IS NULL OR NOT isfinite(_before) OR _before > least(_now, clock_timestamp() + interval '5 minutes') THEN
        RAISE EXCEPTION 'a period that ends at % has not ended at %', _before, least(_now, clock_timestamp()) USING ERRCODE = 'PV001';
    END IF;
    PERFORM pg_advisory_xact_lock(7266331004);  -- one closing at a time
    SELECT * INTO former FROM ledger_closings ORDER BY number DESC LIMIT 1;
    IF _before <= former.closed_before THEN
        RAISE EXCEPTION 'everything before % is closed already', former.closed_before USING ERRCODE = 'PV002';
    END IF;
    opened := coalesce(former.closed_before, '-infinity');

    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + base INTO settled FROM ledger_write_base;
    SELECT array_agg(m.account_id) AS accounts, array_agg(m.cents) AS cents, coalesce(sum(m.transactions), 0) AS transactions INTO moved
    FROM ledger_moved(opened, _before, 0, settled) AS m;

    PERFORM pg_advisory_xact_lock(7266331003);
    UPDATE ledger_write_base SET base = base;  -- what posts on an older snapshot fails to serialise (ledger_enter_open_period)
    SELECT array_agg(m.account_id) AS accounts, array_agg(m.cents) AS cents, coalesce(sum(m.transactions), 0) AS transactions INTO late
    FROM ledger_moved(opened, _before, settled, the_last_write) AS m;
    SELECT array_agg(t.account_id), array_agg(t.cents) INTO accounts, balances FROM (
        SELECT m.account_id, sum(m.cents)::bigint AS cents FROM (
            SELECT c.account_id, c.balance_cents FROM ledger_closing_balances c WHERE c.closing = former.number
            UNION ALL SELECT * FROM unnest(moved.accounts, moved.cents)
            UNION ALL SELECT * FROM unnest(late.accounts, late.cents)) AS m(account_id, cents)
        GROUP BY m.account_id) AS t;
    SELECT coalesce(sum(greatest(t.cents, 0)), 0) INTO debits FROM (
        SELECT sum(b.cents) AS cents FROM unnest(accounts, balances) AS b(account_id, cents)
        JOIN ledger_accounts a ON a.id = b.account_id GROUP BY a.scope, a.code) AS t;

    next_number := coalesce(former.number, 0) + 1;
    INSERT INTO ledger_closings (number, closed_before, closed_at, closed_by, transactions, debit_cents)
    VALUES (next_number, _before, _now, _by, moved.transactions + late.transactions, debits);
    INSERT INTO ledger_closing_balances (closing, account_id, balance_cents)
    SELECT next_number, b.account_id, b.cents FROM unnest(accounts, balances) AS b(account_id, cents);
    RETURN next_number;
END $$;
