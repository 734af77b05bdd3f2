-- A reversal undoes one original of its own partner, to the cent and account, once; a reversal itself is not reversed.
CREATE OR REPLACE FUNCTION ledger_link_reversals(_ids uuid[], _partners uuid[], _reverses uuid[], _fresh boolean[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    wanted integer;
    linked integer;
    wrong record;
BEGIN
    SELECT r.original, t.id IS NULL OR t.partner_id IS DISTINCT FROM r.partner AS unknown, t.reverses IS NOT NULL AS is_reversal INTO wrong
    FROM unnest(_ids, _partners, _reverses) WITH ORDINALITY AS r(id, partner, original, n)
    LEFT JOIN ledger_transactions t ON t.id = r.original
    WHERE _fresh[r.n] AND r.original IS NOT NULL
      AND (t.id IS NULL OR t.partner_id IS DISTINCT FROM r.partner OR t.reverses IS NOT NULL
           OR EXISTS (SELECT FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
                      WHERE e.transaction_id IN (r.id, r.original) GROUP BY a.scope, a.code HAVING sum(e.amount_cents) <> 0))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % cannot be reversed so: %', wrong.original,
            CASE WHEN wrong.unknown THEN 'this partner has none of that id' WHEN wrong.is_reversal THEN 'it is a reversal itself'
                 ELSE 'the legs do not mirror it' END USING ERRCODE = 'PV001';
    END IF;
    SELECT count(*) INTO wanted FROM unnest(_reverses) WITH ORDINALITY AS r(original, n) WHERE _fresh[r.n] AND r.original IS NOT NULL;
    INSERT INTO ledger_reversals (original, reversal)
    SELECT r.original, r.id FROM unnest(_ids, _reverses) WITH ORDINALITY AS r(id, original, n)
    WHERE _fresh[r.n] AND r.original IS NOT NULL ORDER BY r.original ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS linked = ROW_COUNT;
    IF linked < wanted THEN
        RAISE EXCEPTION 'a transaction of the batch is reversed already' USING ERRCODE = 'PV002';
    END IF;
END $$;
