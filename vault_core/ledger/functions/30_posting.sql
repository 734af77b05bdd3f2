-- Posts a batch and returns the transaction id of each posting, in order: a new one, or that of the first posting under the key.
-- PV001: the input is malformed. PV002: a key was used with another body, a hold or a reversal is taken. PV003: a posting that is not to
-- be carried is effective in a closed period. One that is goes to the first instant of the open period, its own time in carried_from;
-- its key stands for the time that was asked for, so a repeat is a repeat whatever was closed meanwhile.
-- Legs name an account by its code alone: a partner's code means the posting's own partner, so two partners cannot meet in
-- one transaction.
-- Whatever the tables grow to, each row is one look-up in an index: the planner may not think otherwise while they are young, nor
-- plan anew for each batch.
CREATE OR REPLACE FUNCTION ledger_post(
    _booked_at timestamptz, _ids uuid[], _partners uuid[], _kinds text[], _references text[], _keys text[], _descriptions text[],
    _effective_at timestamptz[], _carried boolean[], _reverses uuid[], _holds uuid[], _leg_posting integer[], _leg_code text[], _leg_cents bigint[]
) RETURNS uuid[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    the_house CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    postings CONSTANT integer := cardinality(_ids);
    pid CONSTANT integer := pg_backend_pid();
    open_from CONSTANT timestamptz := ledger_enter_open_period();
    carried_from timestamptz[];
    scopes uuid[];
    leg_bytes bytea[];
    hashes bytea[];
    answers uuid[] := _ids;
    fresh boolean[] := array_fill(true, ARRAY[postings]);
    reserved integer;
    wrong record;
    account_scopes uuid[];
    account_codes text[];
    account_shards smallint[];
    leg_slots integer[];
    account_ids bigint[];
    balances bigint[];
    versions bigint[];
BEGIN
    IF postings = 0 THEN RETURN _ids; END IF;
    IF array_position(_ids, NULL) IS NOT NULL OR array_position(_leg_posting, NULL) IS NOT NULL
       OR cardinality(_leg_posting) <> cardinality(_leg_code) OR cardinality(_leg_code) <> cardinality(_leg_cents)
       OR NOT postings = ALL (ARRAY[cardinality(_partners), cardinality(_kinds), cardinality(_references), cardinality(_keys),
                                    cardinality(_descriptions), cardinality(_effective_at), cardinality(_carried), cardinality(_reverses), cardinality(_holds)]) THEN
        RAISE EXCEPTION 'the lists of a batch differ in length or hold nulls' USING ERRCODE = 'PV001';
    END IF;
    SELECT p.id INTO wrong FROM (SELECT DISTINCT unnest(_partners) AS id) AS p
    WHERE p.id IS NOT NULL AND NOT EXISTS (SELECT FROM partners WHERE id = p.id) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% is no partner''s id', wrong.id USING ERRCODE = 'PV001';
    END IF;
    SELECT array_agg(coalesce(p.partner, the_house) ORDER BY p.n) INTO scopes FROM unnest(_partners) WITH ORDINALITY AS p(partner, n);

    -- What is posted makes sense: known accounts, the posting's own partner, whole legs that sum to zero.
    SELECT l.posting, l.code, c.house INTO wrong
    FROM unnest(_leg_posting, _leg_code) AS l(posting, code) LEFT JOIN ledger_chart c ON c.code = l.code
    WHERE l.posting NOT BETWEEN 1 AND postings OR c.code IS NULL OR (NOT c.house AND scopes[l.posting] = the_house) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'posting % names account %, which %', wrong.posting, wrong.code,
            CASE WHEN wrong.house IS NULL THEN 'is not in the chart' ELSE 'only a partner has' END USING ERRCODE = 'PV001';
    END IF;
    SELECT array_agg(l.bytes ORDER BY l.posting) INTO leg_bytes FROM (
        SELECT posting, string_agg(ledger_leg_bytes(code, cents), ''::bytea ORDER BY code COLLATE "C", cents) AS bytes
        FROM unnest(_leg_posting, _leg_code, _leg_cents) AS leg(posting, code, cents)
        GROUP BY posting HAVING sum(cents) = 0 AND count(cents) = count(*) AND bool_and(cents <> 0)) AS l;
    IF coalesce(cardinality(leg_bytes), 0) <> postings THEN
        RAISE EXCEPTION 'a posting has no legs, an empty leg, or legs that do not sum to zero' USING ERRCODE = 'PV001';
    END IF;
    SELECT array_agg(ledger_body_hash(p.kind, p.reference, p.effective_at, p.reverses, p.bytes) ORDER BY p.n) INTO hashes
    FROM unnest(_kinds, _references, _effective_at, _reverses, leg_bytes) WITH ORDINALITY AS p(kind, reference, effective_at, reverses, bytes, n);

    -- The keys, in order, so that two batches with the same keys wait for each other instead of deadlocking.
    WITH taken AS (
        INSERT INTO ledger_keys (scope, key, body_hash, transaction_id)
        SELECT DISTINCT ON (p.scope, p.key) p.scope, p.key, p.hash, p.id
        FROM unnest(scopes, _keys, hashes, _ids) WITH ORDINALITY AS p(scope, key, hash, id, n) ORDER BY p.scope, p.key, p.n
        ON CONFLICT DO NOTHING RETURNING 1)
    SELECT count(*) INTO reserved FROM taken;
    IF reserved < postings THEN
        SELECT p.key INTO wrong FROM unnest(scopes, _keys, hashes) AS p(scope, key, hash)
            JOIN ledger_keys k ON k.scope = p.scope AND k.key = p.key WHERE k.body_hash <> p.hash LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'key % was used for another posting', wrong.key USING ERRCODE = 'PV002';
        END IF;
        SELECT array_agg(k.transaction_id ORDER BY p.n), array_agg(k.transaction_id = p.id ORDER BY p.n) INTO answers, fresh
        FROM unnest(scopes, _keys, _ids) WITH ORDINALITY AS p(scope, key, id, n) JOIN ledger_keys k ON k.scope = p.scope AND k.key = p.key;
        SELECT array_agg(l.posting ORDER BY l.n), array_agg(l.code ORDER BY l.n), array_agg(l.cents ORDER BY l.n)
        INTO _leg_posting, _leg_code, _leg_cents
        FROM unnest(_leg_posting, _leg_code, _leg_cents) WITH ORDINALITY AS l(posting, code, cents, n) WHERE fresh[l.posting];
    END IF;

    IF open_from > ANY (_effective_at) THEN
        SELECT p.key, p.effective_at INTO wrong FROM unnest(_keys, _effective_at, _carried) WITH ORDINALITY AS p(key, effective_at, carried, n)
        WHERE fresh[p.n] AND p.effective_at < open_from AND p.carried IS NOT TRUE LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'posting % is effective at %, and everything before % is closed', wrong.key, wrong.effective_at, open_from
                USING ERRCODE = 'PV003';
        END IF;
        SELECT array_agg(CASE WHEN p.at < open_from THEN p.at END ORDER BY p.n), array_agg(greatest(p.at, open_from) ORDER BY p.n)
        INTO carried_from, _effective_at FROM unnest(_effective_at) WITH ORDINALITY AS p(at, n);
    END IF;

    -- The accounts, each in a slot. A hot house account is several rows; each connection keeps to one of them.
    SELECT array_agg(l.slot ORDER BY l.n), array_agg(l.scope ORDER BY l.slot) FILTER (WHERE l.first),
           array_agg(l.code ORDER BY l.slot) FILTER (WHERE l.first), array_agg(l.shard ORDER BY l.slot) FILTER (WHERE l.first)
    INTO leg_slots, account_scopes, account_codes, account_shards FROM (
        SELECT p.n, p.scope, p.code, p.shard, dense_rank() OVER (ORDER BY p.scope, p.code) AS slot,
               row_number() OVER (PARTITION BY p.scope, p.code ORDER BY p.n) = 1 AS first
        FROM (SELECT l.n, CASE WHEN c.house THEN the_house ELSE scopes[l.posting] END AS scope, c.code, (pid % c.shards)::smallint AS shard
              FROM unnest(_leg_posting, _leg_code) WITH ORDINALITY AS l(posting, code, n) JOIN ledger_chart c ON c.code = l.code) AS p) AS l;
    SELECT * INTO account_ids, balances, versions FROM ledger_lock_accounts(account_scopes, account_codes, account_shards);

    INSERT INTO ledger_transactions (id, partner_id, kind, reference, key, description, effective_at, carried_from, booked_at,
                                     reverses, written_by)
    SELECT p.id, p.partner, p.kind, p.reference, p.key, p.description, p.effective_at, carried_from[p.n], _booked_at, p.reverses,
           pg_current_xact_id()::text::bigint + b.base
    FROM ledger_write_base b, unnest(_ids, _partners, _kinds, _references, _keys, _descriptions, _effective_at, _reverses)
         WITH ORDINALITY AS p(id, partner, kind, reference, key, description, effective_at, reverses, n)
    WHERE fresh[p.n];

    INSERT INTO ledger_entries (transaction_id, leg, account_id, amount_cents, balance_before_cents, balance_after_cents, account_version)
    SELECT _ids[l.posting], row_number() OVER (PARTITION BY l.posting ORDER BY l.n), account_ids[l.slot], l.cents,
           balances[l.slot] + sum(l.cents) OVER running - l.cents, balances[l.slot] + sum(l.cents) OVER running,
           versions[l.slot] + row_number() OVER running
    FROM unnest(_leg_posting, _leg_cents, leg_slots) WITH ORDINALITY AS l(posting, cents, slot, n)
    WINDOW running AS (PARTITION BY l.slot ORDER BY l.n);
    UPDATE ledger_accounts a SET balance_cents = a.balance_cents + total.cents, version = a.version + total.entries
    FROM (SELECT slot, sum(cents) AS cents, count(*) AS entries FROM unnest(leg_slots, _leg_cents) AS l(slot, cents) GROUP BY slot) AS total
    WHERE a.id = account_ids[total.slot];

    IF cardinality(array_remove(_reverses, NULL)) > 0 THEN PERFORM ledger_link_reversals(_ids, _partners, _reverses, fresh); END IF;
    IF cardinality(array_remove(_holds, NULL)) > 0 THEN
        PERFORM ledger_capture_holds(_booked_at, answers, scopes, _holds, fresh, _leg_posting, _leg_code, _leg_cents);
    END IF;
    RETURN answers;
END $$;
