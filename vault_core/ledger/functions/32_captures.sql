-- Resolves holds by the postings that capture them. The accounts are locked by ledger_post, which guards their holds too.
CREATE OR REPLACE FUNCTION ledger_capture_holds(
    _now timestamptz, _ids uuid[], _scopes uuid[], _holds uuid[], _fresh boolean[],
    _leg_posting integer[], _leg_code text[], _leg_cents bigint[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    wrong record;
    wanted integer;
    resolved integer;
    taken_holds uuid[];
    taken_ids uuid[];
    taken_cents bigint[];
BEGIN
    SELECT w.hold, h.id IS NULL AS unknown, h.state INTO wrong
    FROM unnest(_holds, _ids) WITH ORDINALITY AS w(hold, id, n) LEFT JOIN ledger_holds h ON h.id = w.hold
    WHERE w.hold IS NOT NULL AND (h.id IS NULL OR (_fresh[w.n] AND h.state <> 'held')
        OR (NOT _fresh[w.n] AND h.transaction_id IS DISTINCT FROM w.id
            AND NOT EXISTS (SELECT FROM unnest(_holds, _ids) WITH ORDINALITY AS first(hold, id, n)  -- a repeat within the batch
                            WHERE _fresh[first.n] AND first.id = w.id AND first.hold = w.hold)))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'hold % cannot be captured: %', wrong.hold,
            CASE WHEN wrong.unknown THEN 'there is none of that id' WHEN wrong.state = 'held' THEN 'the key was posted without it'
                 ELSE 'it is ' || wrong.state || ' already' END USING ERRCODE = 'PV002';
    END IF;
    -- What each new posting takes from its hold's account.
    SELECT count(*), array_agg(t.hold), array_agg(t.id), array_agg(t.cents) INTO wanted, taken_holds, taken_ids, taken_cents FROM (
        SELECT w.hold, w.id, coalesce(sum(CASE a.normal_side WHEN 'credit' THEN l.cents ELSE -l.cents END), 0)::bigint AS cents
        FROM unnest(_holds, _ids, _scopes) WITH ORDINALITY AS w(hold, id, scope, n)
        JOIN ledger_holds h ON h.id = w.hold JOIN ledger_accounts a ON a.id = h.account_id
        LEFT JOIN unnest(_leg_posting, _leg_code, _leg_cents) AS l(posting, code, cents)
            ON l.posting = w.n AND l.code = a.code AND a.scope = w.scope
        WHERE _fresh[w.n] GROUP BY w.n, w.hold, w.id) AS t;
    IF wanted = 0 THEN RETURN; END IF;
    SELECT h.id, h.amount_cents, t.cents INTO wrong FROM unnest(taken_holds, taken_cents) AS t(hold, cents)
    JOIN ledger_holds h ON h.id = t.hold WHERE t.cents < 1 OR t.cents > h.amount_cents LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'hold % is of % cents, the posting takes % from its account', wrong.id, wrong.amount_cents, wrong.cents
            USING ERRCODE = 'PV001';
    END IF;
    WITH done AS (
        UPDATE ledger_holds h SET state = 'captured', resolved_at = _now, transaction_id = t.id, captured_cents = t.cents
        FROM unnest(taken_holds, taken_ids, taken_cents) AS t(hold, id, cents)
        WHERE h.id = t.hold AND h.state = 'held' RETURNING h.account_id, h.amount_cents),
    freed AS (
        UPDATE ledger_accounts a SET held_cents = a.held_cents - total.cents
        FROM (SELECT account_id, sum(amount_cents) AS cents FROM done GROUP BY account_id) AS total WHERE a.id = total.account_id)
    SELECT count(*) INTO resolved FROM done;
    IF resolved < wanted THEN
        RAISE EXCEPTION 'a hold of the batch is captured twice' USING ERRCODE = 'PV002';
    END IF;
END $$;
