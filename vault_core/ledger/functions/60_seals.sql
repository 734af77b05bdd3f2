-- One leg in a transaction's hash: 34 bytes.
CREATE OR REPLACE FUNCTION ledger_entry_bytes(leg smallint, account_id bigint, cents bigint, before bigint, version bigint)
RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN int2send(leg) || int8send(account_id) || int8send(cents) || int8send(before) || int8send(version);

-- What names an account. From format 2 on it follows each leg in a transaction's hash: an entry tells its account's number alone.
CREATE OR REPLACE FUNCTION ledger_account_bytes(scope uuid, code text, shard smallint, normal_side text)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN uuid_send(scope) || ledger_text_bytes(code) || int2send(shard) || ledger_text_bytes(normal_side);

-- All that is sealed of a transaction; `legs` are its ledger_entry_bytes in the order of the legs, in format 2 each with its
-- ledger_account_bytes. What was carried from a closed period adds 20 bytes behind them, which no number of legs does, so that two
-- different transactions never read the same.
CREATE OR REPLACE FUNCTION ledger_transaction_hash(
    id uuid, partner_id uuid, kind text, reference text, key text, description text, effective_at timestamptz, carried_from timestamptz,
    booked_at timestamptz, reverses uuid, written_by bigint, legs bytea)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
    uuid_send(id) || uuid_send(coalesce(partner_id, '00000000-0000-0000-0000-000000000000')) || ledger_text_bytes(kind)
    || ledger_text_bytes(reference) || ledger_text_bytes(key) || ledger_text_bytes(description)
    || timestamptz_send(effective_at) || timestamptz_send(booked_at)
    || uuid_send(coalesce(reverses, '00000000-0000-0000-0000-000000000000')) || int8send(written_by) || coalesce(legs, '')
    || CASE WHEN carried_from IS NULL THEN '' ELSE convert_to('carried_from', 'UTF8') || timestamptz_send(carried_from) END);

-- What is true of all transactions written from `_from` to before `_upto`: the one place that says what a seal covers.
CREATE OR REPLACE FUNCTION ledger_digest(_from bigint, _upto bigint, _format smallint)
RETURNS TABLE (transactions bigint, first_transaction uuid, last_transaction uuid, digest bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*), (array_agg(s.id ORDER BY s.written_by, s.id))[1], (array_agg(s.id ORDER BY s.written_by DESC, s.id DESC))[1],
           sha256(coalesce(string_agg(s.hash, ''::bytea ORDER BY s.written_by, s.id), ''))
    FROM (
        SELECT t.id, t.written_by, ledger_transaction_hash(
            t.id, t.partner_id, t.kind, t.reference, t.key, t.description, t.effective_at, t.carried_from, t.booked_at, t.reverses,
            t.written_by,
            (SELECT string_agg(ledger_entry_bytes(e.leg, e.account_id, e.amount_cents, e.balance_before_cents, e.account_version)
                               || CASE WHEN _format = 1 THEN '' ELSE ledger_account_bytes(a.scope, a.code, a.shard, a.normal_side) END,
                               ''::bytea ORDER BY e.leg)
             FROM ledger_entries e LEFT JOIN ledger_accounts a ON a.id = e.account_id WHERE e.transaction_id = t.id)) AS hash
        FROM ledger_transactions t WHERE t.written_by >= _from AND t.written_by < _upto) AS s
$$;

CREATE OR REPLACE FUNCTION ledger_chain(_before bytea, _number bigint, _from bigint, _upto bigint, _transactions bigint, _digest bytea)
RETURNS bytea LANGUAGE sql IMMUTABLE
RETURN sha256(_before || int8send(_number) || int8send(_from) || int8send(_upto) || int8send(_transactions) || _digest);

-- Seals the next transactions, about `_most` of them, and returns how many (0: nothing to seal).
-- A seal covers a range of database transactions, and only those below the oldest one still running anywhere on this server:
-- each of them has committed, so that all its postings are seen here, or never will. So no commit, however late, can slip
-- behind a seal, whatever the clocks that made the ids say.
CREATE OR REPLACE FUNCTION ledger_seal(_now timestamptz, _most integer)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    the_format CONSTANT smallint := 2;
    former ledger_seals;
    horizon bigint;
    cut bigint;
    sealed record;
    start bigint;
    next_number bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7266331002);  -- one sealer at a time
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + base INTO horizon FROM ledger_write_base;
    SELECT * INTO former FROM ledger_seals ORDER BY number DESC LIMIT 1;
    start := coalesce(former.upto_write, 0);
    SELECT max(w.written_by) + 1 INTO cut FROM (
        SELECT written_by FROM ledger_transactions WHERE written_by >= start AND written_by < horizon ORDER BY written_by LIMIT _most) AS w;
    IF cut IS NULL THEN RETURN 0; END IF;
    SELECT * INTO sealed FROM ledger_digest(start, cut, the_format);
    next_number := coalesce(former.number, 0) + 1;
    INSERT INTO ledger_seals (number, from_write, upto_write, first_transaction, last_transaction, transactions, digest, chain, sealed_at,
                              format)
    VALUES (next_number, start, cut, sealed.first_transaction, sealed.last_transaction, sealed.transactions, sealed.digest,
            ledger_chain(coalesce(former.chain, ''), next_number, start, cut, sealed.transactions, sealed.digest), _now, the_format);
    RETURN sealed.transactions;
END $$;

-- Keeps written_by growing on a server whose transaction ids are lower than those of the server the ledger came from.
-- Run by every migration, as the owner, while nothing else posts.
CREATE OR REPLACE FUNCTION ledger_adopt_server() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    highest bigint;
BEGIN
    SELECT greatest(coalesce((SELECT max(written_by) FROM ledger_transactions), 0) + 1,
                    coalesce((SELECT max(upto_write) FROM ledger_seals), 0)) INTO highest;
    UPDATE ledger_write_base SET base = highest - pg_current_xact_id()::text::bigint
    WHERE base + pg_current_xact_id()::text::bigint < highest;
END $$;
