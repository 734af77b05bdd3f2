-- What M-Pesa answered to pulls and what it was told before payments goes by age, a batch a call: not what a payment rests on or was
-- told under, not an answer with rows that nobody could read, and nothing of the last week, whatever the caller says.
CREATE OR REPLACE FUNCTION purge_feed_answers(before timestamptz, most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    until timestamptz := least(before, now() - interval '7 days');
    answers integer;
    validations integer;
BEGIN
    DELETE FROM pull_answers WHERE id IN (
        SELECT a.id FROM pull_answers a
        WHERE a.answered_at < until AND a.unreadable = 0
              AND NOT EXISTS (SELECT FROM collections c WHERE c.event_id = a.id AND c.source = 'pull')
              AND NOT EXISTS (SELECT FROM collection_tellings t WHERE t.event_id = a.id AND t.source = 'pull')
        ORDER BY a.answered_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS answers = ROW_COUNT;
    DELETE FROM payment_validations WHERE (event_id, late) IN (
        SELECT v.event_id, v.late FROM payment_validations v
        WHERE v.at < until
              AND NOT EXISTS (SELECT FROM collections c WHERE c.short_code = v.short_code AND c.receipt = v.receipt)
        ORDER BY v.at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS validations = ROW_COUNT;
    RETURN answers + validations;
END $$;
REVOKE ALL ON FUNCTION purge_feed_answers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION purge_feed_answers TO vault_app;
