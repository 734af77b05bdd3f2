-- Makes the missing accounts and locks all, in the order of their ids; answers in the order they were asked for.
-- New rows come first, so a never-used account locks too. The join methods are fixed because each account is one look-up in the
-- unique index, which the planner does not see while the tables are young and have no statistics.
CREATE OR REPLACE FUNCTION ledger_lock_accounts(
    _scopes uuid[], _codes text[], _shards smallint[], OUT ids bigint[], OUT balances bigint[], OUT versions bigint[])
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO ledger_accounts (partner_id, code, shard, normal_side)
    SELECT nullif(w.scope, '00000000-0000-0000-0000-000000000000'), w.code, w.shard, c.normal_side
    FROM unnest(_scopes, _codes, _shards) AS w(scope, code, shard) JOIN ledger_chart c ON c.code = w.code
    WHERE NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.scope = w.scope AND a.code = w.code AND a.shard = w.shard)
    ORDER BY w.scope, w.code, w.shard
    ON CONFLICT DO NOTHING;
    SELECT array_agg(l.id ORDER BY l.slot), array_agg(l.balance_cents ORDER BY l.slot), array_agg(l.version ORDER BY l.slot)
    INTO ids, balances, versions FROM (
        SELECT w.slot, a.id, a.balance_cents, a.version
        FROM unnest(_scopes, _codes, _shards) WITH ORDINALITY AS w(scope, code, shard, slot)
        JOIN ledger_accounts a ON a.scope = w.scope AND a.code = w.code AND a.shard = w.shard
        ORDER BY a.id FOR NO KEY UPDATE OF a) AS l;
END $$;
