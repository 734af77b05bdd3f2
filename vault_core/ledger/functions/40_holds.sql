-- Places holds in order, each against what the ones before it left available. One row a request: the hold's id, or null and
-- what was available. A key that has a hold, held or captured, gives that one back, with the expiry it was placed with.
CREATE OR REPLACE FUNCTION ledger_hold(
    _now timestamptz, _ids uuid[], _partners uuid[], _codes text[], _keys text[], _cents bigint[], _expires_at timestamptz[])
RETURNS TABLE (hold_id uuid, available_cents bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    requests CONSTANT integer := cardinality(_ids);
    request record;
    current_account bigint := -1;
    left_now bigint;
    taken_ids uuid[] := '{}';
    taken_accounts bigint[] := '{}';
    taken_partners uuid[] := '{}';
    taken_keys text[] := '{}';
    taken_cents bigint[] := '{}';
    taken_expiries timestamptz[] := '{}';
    left_over bigint[] := array_fill(0::bigint, ARRAY[requests]);
BEGIN
    IF requests = 0 THEN RETURN; END IF;
    IF NOT requests = ALL (ARRAY[cardinality(_partners), cardinality(_codes), cardinality(_keys), cardinality(_cents), cardinality(_expires_at)])
       OR EXISTS (SELECT FROM unnest(_partners, _codes, _cents) AS r(partner, code, cents) LEFT JOIN ledger_chart c ON c.code = r.code
                  WHERE coalesce(r.partner, '00000000-0000-0000-0000-000000000000') = '00000000-0000-0000-0000-000000000000' OR c.holdable IS NOT TRUE OR r.cents IS NULL OR r.cents <= 0) THEN
        RAISE EXCEPTION 'a hold is a positive amount on a partner''s holdable account' USING ERRCODE = 'PV001';
    END IF;
    IF _now >= ANY (_expires_at) THEN
        RAISE EXCEPTION 'a hold expires after it is placed, at %', _now USING ERRCODE = 'PV001';
    END IF;
    PERFORM ledger_lock_accounts(array_agg(a.partner), array_agg(a.code), array_agg(0::smallint))
    FROM (SELECT DISTINCT r.partner, r.code FROM unnest(_partners, _codes) AS r(partner, code)) AS a;
    IF EXISTS (SELECT FROM unnest(_partners, _codes, _keys, _cents) AS r(partner, code, key, cents)
               GROUP BY r.partner, r.key HAVING count(DISTINCT (r.code, r.cents)) > 1)
       OR EXISTS (SELECT FROM unnest(_partners, _codes, _keys, _cents) AS r(partner, code, key, cents)
                  JOIN ledger_holds h ON h.partner_id = r.partner AND h.key = r.key AND h.state IN ('held', 'captured')
                  JOIN ledger_accounts a ON a.id = h.account_id WHERE a.code <> r.code OR h.amount_cents <> r.cents) THEN
        RAISE EXCEPTION 'a key of the batch holds another amount or account already' USING ERRCODE = 'PV002';
    END IF;
    FOR request IN
        SELECT r.n, r.id, r.partner, r.key, r.cents, r.expires_at, a.id AS account_id,
               CASE a.normal_side WHEN 'credit' THEN -a.balance_cents ELSE a.balance_cents END - a.held_cents AS available
        FROM (SELECT DISTINCT ON (u.partner, u.key) u.* FROM unnest(_ids, _partners, _codes, _keys, _cents, _expires_at)
                  WITH ORDINALITY AS u(id, partner, code, key, cents, expires_at, n) ORDER BY u.partner, u.key, u.n) AS r
        JOIN ledger_accounts a ON a.scope = r.partner AND a.code = r.code AND a.shard = 0
        WHERE NOT EXISTS (SELECT FROM ledger_holds h WHERE h.partner_id = r.partner AND h.key = r.key AND h.state IN ('held', 'captured'))
        ORDER BY a.id, r.n
    LOOP
        IF request.account_id <> current_account THEN
            current_account := request.account_id;
            left_now := request.available;
        END IF;
        left_over[request.n] := left_now;
        IF request.cents <= left_now THEN
            left_now := left_now - request.cents;
            taken_ids := taken_ids || request.id;
            taken_accounts := taken_accounts || current_account;
            taken_partners := taken_partners || request.partner;
            taken_keys := taken_keys || request.key;
            taken_cents := taken_cents || request.cents;
            taken_expiries := taken_expiries || request.expires_at;
        END IF;
    END LOOP;
    INSERT INTO ledger_holds (id, account_id, partner_id, key, amount_cents, placed_at, expires_at)
    SELECT t.id, t.account_id, t.partner, t.key, t.cents, _now, t.expires_at
    FROM unnest(taken_ids, taken_accounts, taken_partners, taken_keys, taken_cents, taken_expiries)
         AS t(id, account_id, partner, key, cents, expires_at);
    UPDATE ledger_accounts a SET held_cents = a.held_cents + total.cents
    FROM (SELECT t.account_id, sum(t.cents) AS cents FROM unnest(taken_accounts, taken_cents) AS t(account_id, cents) GROUP BY 1) AS total
    WHERE a.id = total.account_id;
    RETURN QUERY SELECT h.id, left_over[r.n] FROM unnest(_partners, _keys) WITH ORDINALITY AS r(partner, key, n)
        LEFT JOIN ledger_holds h ON h.partner_id = r.partner AND h.key = r.key AND h.state IN ('held', 'captured') ORDER BY r.n;
END $$;

-- Locks the accounts of holds, in the order of their ids: whoever ends or keeps a hold comes by here first, so that one acts at a time.
CREATE OR REPLACE FUNCTION ledger_lock_held(_holds uuid[])
RETURNS void LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT FROM ledger_accounts a WHERE a.id IN (SELECT h.account_id FROM ledger_holds h WHERE h.id = ANY (_holds))
    ORDER BY a.id FOR NO KEY UPDATE
$$;

-- Ends what is held of these holds and returns how many that were.
CREATE OR REPLACE FUNCTION ledger_free(_now timestamptz, _holds uuid[], _state text)
RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS $$
    WITH done AS (
        UPDATE ledger_holds h SET state = _state, resolved_at = _now WHERE h.id = ANY (_holds) AND h.state = 'held'
        RETURNING h.account_id, h.amount_cents),
    freed AS (
        UPDATE ledger_accounts a SET held_cents = a.held_cents - total.cents
        FROM (SELECT account_id, sum(amount_cents) AS cents FROM done GROUP BY account_id) AS total WHERE a.id = total.account_id)
    SELECT count(*) FROM done
$$;

-- Gives held money back and returns how many holds that ended; a released hold stays released, a captured or expired one is refused.
CREATE OR REPLACE FUNCTION ledger_release(_now timestamptz, _holds uuid[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wrong record;
BEGIN
    PERFORM ledger_lock_held(_holds);
    SELECT w.hold, h.state INTO wrong FROM unnest(_holds) AS w(hold) LEFT JOIN ledger_holds h ON h.id = w.hold
    WHERE h.state IS NULL OR h.state IN ('captured', 'expired') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'hold % cannot be released: %', wrong.hold, coalesce('it is ' || wrong.state || ' already', 'there is none of that id')
            USING ERRCODE = 'PV002';
    END IF;
    RETURN ledger_free(_now, _holds, 'released');
END $$;

-- Takes the expiry off holds, before an outside act begins whose outcome may become unknown. One that is not held any more is refused.
CREATE OR REPLACE FUNCTION ledger_keep(_holds uuid[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wrong record;
BEGIN
    PERFORM ledger_lock_held(_holds);
    SELECT w.hold, h.state INTO wrong FROM unnest(_holds) AS w(hold) LEFT JOIN ledger_holds h ON h.id = w.hold
    WHERE h.state IS DISTINCT FROM 'held' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'hold % cannot be kept: %', wrong.hold, coalesce('it is ' || wrong.state || ' already', 'there is none of that id')
            USING ERRCODE = 'PV002';
    END IF;
    UPDATE ledger_holds h SET expires_at = NULL WHERE h.id = ANY (_holds) AND h.expires_at IS NOT NULL;
END $$;

-- Ends the holds whose time is over, `_most` at once, the earliest first, and returns how many that were.
CREATE OR REPLACE FUNCTION ledger_expire(_now timestamptz, _most integer)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    due uuid[];
BEGIN
    SELECT array_agg(d.id) INTO due FROM (
        SELECT id FROM ledger_holds WHERE state = 'held' AND expires_at <= _now ORDER BY expires_at LIMIT _most) AS d;
    IF due IS NULL THEN RETURN 0; END IF;
    PERFORM ledger_lock_held(due);
    -- What was captured, released or kept while we waited for the lock is not ours to end.
    SELECT array_agg(h.id) INTO due FROM ledger_holds h WHERE h.id = ANY (due) AND h.state = 'held' AND h.expires_at <= _now;
    RETURN ledger_free(_now, due, 'expired');
END $$;
