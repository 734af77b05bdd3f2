"""Double entry in integer cents, holds, seals, tariffs, charges."""

from alembic import op

from vault_core.database import run_sql

revision = "0003"
down_revision = "0002"

SQL = """
-- The chart of accounts: what may be posted to, by whom, and how many rows share a hot account (vault_core/ledger/chart.py).
CREATE TABLE ledger_chart (
    code text PRIMARY KEY,
    house boolean NOT NULL,               -- true: the house's own; false: each partner has one
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    holdable boolean NOT NULL DEFAULT false,
    shards smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64),
    CHECK (NOT holdable OR shards = 1)    -- cover can only be judged on one row
);
INSERT INTO ledger_chart (code, house, normal_side, holdable, shards) VALUES
    ('wallet',             false, 'credit', true,  1),
    ('b2c_float',          false, 'debit',  false, 1),
    ('disbursed_unposted', false, 'debit',  false, 1),
    ('loan_book',          false, 'debit',  false, 1),
    ('loan_charges',       false, 'credit', false, 1),
    ('c2b_float',          false, 'debit',  false, 1),
    ('collected_unposted', false, 'credit', false, 1),
    ('savings_book',       false, 'credit', false, 1),
    ('suspense',           false, 'credit', false, 1),
    ('bank:settlement',    true,  'debit',  false, 8),
    ('fees:mpesa',         true,  'credit', false, 8),
    ('fees:system',        true,  'credit', false, 8),
    ('fees:sms',           true,  'credit', false, 8),
    ('tax:excise',         true,  'credit', false, 8);

-- An account, or one shard of a house account that every partner's postings meet. Its balance is the sum of its shards.
CREATE TABLE ledger_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner_id uuid REFERENCES partners,  -- null: the house's own
    scope uuid NOT NULL GENERATED ALWAYS AS (coalesce(partner_id, '00000000-0000-0000-0000-000000000000')) STORED,
    code text NOT NULL REFERENCES ledger_chart,
    shard smallint NOT NULL DEFAULT 0,
    normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit')),
    currency text NOT NULL DEFAULT 'KES' CHECK (currency = 'KES'),
    balance_cents bigint NOT NULL DEFAULT 0,   -- debits less credits
    held_cents bigint NOT NULL DEFAULT 0 CHECK (held_cents >= 0),
    version bigint NOT NULL DEFAULT 0,         -- entries so far, gap-free
    UNIQUE (scope, code, shard)
) WITH (fillfactor = 30);                 -- rows change in place (HOT) on every posting

-- A key is reserved in the transaction that posts under it; same key with another body is a conflict.
CREATE TABLE ledger_keys (
    scope uuid NOT NULL,                  -- the partner; the nil UUID is the house
    key text NOT NULL,
    body_hash bytea NOT NULL,             -- of kind, reference, effective time, reversed transaction and legs
    transaction_id uuid NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE ledger_transactions (
    id uuid NOT NULL PRIMARY KEY,         -- UUIDv7: a month is a range of ids
    partner_id uuid,
    kind text NOT NULL CHECK (kind <> ''),  -- 'disbursement_paid', 'disbursement_posted', 'charges', 'sms', 'collection', 'topup' ...
    reference text NOT NULL,              -- receipt, or our own id
    key text NOT NULL CHECK (key <> ''),
    description text NOT NULL DEFAULT '',
    effective_at timestamptz NOT NULL,    -- when it happened outside
    booked_at timestamptz NOT NULL,       -- when we wrote it
    reverses uuid,
    written_by bigint NOT NULL            -- the database transaction that wrote it: seals are cut by it (ledger_seal)
) PARTITION BY RANGE (id);
CREATE TABLE ledger_transactions_default PARTITION OF ledger_transactions DEFAULT;
CREATE INDEX ledger_transactions_reference ON ledger_transactions (partner_id, reference);
CREATE INDEX ledger_transactions_effective ON ledger_transactions (partner_id, effective_at);
CREATE INDEX ledger_transactions_written_by ON ledger_transactions (written_by);

-- An original is reversed once: the partitioned table cannot carry that key, so it has its own.
CREATE TABLE ledger_reversals (
    original uuid PRIMARY KEY,
    reversal uuid NOT NULL UNIQUE
);

-- No foreign key to ledger_accounts: only ledger_post writes here, from account rows it has locked.
CREATE TABLE ledger_entries (
    transaction_id uuid NOT NULL,
    leg smallint NOT NULL,
    account_id bigint NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),  -- debit positive, credit negative
    balance_before_cents bigint NOT NULL,
    balance_after_cents bigint NOT NULL,
    account_version bigint NOT NULL CHECK (account_version > 0),
    CHECK (balance_after_cents = balance_before_cents + amount_cents),
    PRIMARY KEY (transaction_id, leg)
) PARTITION BY RANGE (transaction_id);
CREATE TABLE ledger_entries_default PARTITION OF ledger_entries DEFAULT;
CREATE INDEX ledger_entries_by_account ON ledger_entries (account_id, account_version);

CREATE TABLE ledger_holds (
    id uuid PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    partner_id uuid NOT NULL,
    key text NOT NULL CHECK (key <> ''),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'captured', 'released')),
    captured_cents bigint NOT NULL DEFAULT 0 CHECK (captured_cents BETWEEN 0 AND amount_cents),
    placed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    transaction_id uuid,                  -- of the capture
    CHECK ((state = 'held') = (resolved_at IS NULL)),
    CHECK ((state = 'captured') = (captured_cents > 0)),
    CHECK ((state = 'captured') = (transaction_id IS NOT NULL))
);
-- A released hold frees its key: a payout that failed for good is held for anew when it is tried again.
CREATE UNIQUE INDEX ledger_holds_key ON ledger_holds (partner_id, key) WHERE state <> 'released';
CREATE INDEX ledger_holds_open ON ledger_holds (account_id) WHERE state = 'held';

CREATE TABLE ledger_seals (
    number bigint PRIMARY KEY,
    from_write bigint NOT NULL,           -- covers written_by from here ...
    upto_write bigint NOT NULL,           -- ... to before here
    first_transaction uuid NOT NULL,
    last_transaction uuid NOT NULL,
    transactions bigint NOT NULL CHECK (transactions > 0),
    digest bytea NOT NULL,                -- of the sealed transactions
    chain bytea NOT NULL,                 -- of the seal before and this digest
    sealed_at timestamptz NOT NULL,
    CHECK (upto_write > from_write)
);

-- Added to the server's transaction ids, so that written_by keeps growing when a dump is restored on another server.
CREATE TABLE ledger_write_base (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    base bigint NOT NULL
);
INSERT INTO ledger_write_base (base) VALUES (0);

CREATE TABLE tariffs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,               -- 'safaricom', 'kra'
    product text NOT NULL,                -- 'b2c', 'b2c_withdrawal_paid', 'excise_fees'
    valid_from date NOT NULL,
    valid_to date,                        -- first day on which it no longer holds
    source text NOT NULL,
    UNIQUE (provider, product, valid_from),
    CHECK (valid_to IS NULL OR valid_to > valid_from)
);
CREATE TABLE tariff_bands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id bigint NOT NULL REFERENCES tariffs,
    from_cents bigint NOT NULL CHECK (from_cents >= 0),
    to_cents bigint NOT NULL,
    fee_cents bigint NOT NULL DEFAULT 0 CHECK (fee_cents >= 0),
    rate_basis_points integer NOT NULL DEFAULT 0 CHECK (rate_basis_points >= 0),
    confirmed boolean NOT NULL DEFAULT true,
    CHECK (to_cents >= from_cents),
    UNIQUE (tariff_id, from_cents)
);

-- One line of one transaction's charges.
CREATE TABLE charge_lines (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    subject_kind text NOT NULL CHECK (subject_kind IN ('disbursement', 'message')),
    subject_id uuid NOT NULL,
    line text NOT NULL CHECK (line IN ('mpesa_fee', 'system_fee', 'excise', 'sms')),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    tariff_band_id bigint REFERENCES tariff_bands,
    charged_at timestamptz,               -- null while only held
    transaction_id uuid,
    UNIQUE (subject_kind, subject_id, line)
);
CREATE INDEX charge_lines_by_day ON charge_lines (partner_id, charged_at);

-- Once per shortage and wallet: the alert that was sent and when the shortage ended.
CREATE TABLE wallet_alerts (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('short', 'low')),
    balance_cents bigint NOT NULL,
    raised_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX wallet_alerts_one_open ON wallet_alerts (partner_id, kind) WHERE ended_at IS NULL;

-- A tariff is added and ended, never changed: charges point at its bands.
REVOKE UPDATE, DELETE, TRUNCATE ON tariffs, tariff_bands FROM vault_app;
GRANT UPDATE (valid_to) ON tariffs TO vault_app;
"""

GUARDS = """
-- The application writes through the functions below and in no other way. Partitions get the same in vault_core/schema.py.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ledger_chart, ledger_accounts, ledger_keys, ledger_transactions, ledger_transactions_default,
    ledger_reversals, ledger_entries, ledger_entries_default, ledger_holds, ledger_seals, ledger_write_base FROM vault_app;

-- History cannot be rewritten, by the application at all and, short of dropping the trigger, by the owner.
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % refused; post a reversal instead', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_keys FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_reversals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_seals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_transactions FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_keys FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_seals FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Whoever inserts entries, all of a transaction's come in one statement and sum to zero.
CREATE FUNCTION ledger_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced record;
BEGIN
    SELECT transaction_id, sum(amount_cents) AS cents INTO unbalanced
    FROM written GROUP BY transaction_id HAVING sum(amount_cents) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % does not sum to zero: % cents', unbalanced.transaction_id, unbalanced.cents USING ERRCODE = 'PV001';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sums_to_zero AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_sums_to_zero();
"""

POST = """
-- Text in a hash: its length first, so that no two lists of texts read the same. (Stable, as convert_to is: so they are inlined.)
CREATE FUNCTION ledger_text_bytes(value text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN int4send(octet_length(value)) || convert_to(value, 'UTF8');

-- What a key stands for. Legs are hashed in the order of their accounts and amounts, not of their writing.
CREATE FUNCTION ledger_leg_bytes(code text, cents bigint) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN int4send(octet_length(code)) || convert_to(code, 'UTF8') || int8send(cents);
CREATE FUNCTION ledger_body_hash(kind text, reference text, effective_at timestamptz, reverses uuid, legs bytea)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(ledger_text_bytes(kind) || ledger_text_bytes(reference) || timestamptz_send(effective_at)
              || uuid_send(coalesce(reverses, '00000000-0000-0000-0000-000000000000')) || legs);

-- Makes the missing accounts and locks all, in the order of their ids; answers in the order they were asked for.
-- New rows come first, so a never-used account locks too. The join methods are fixed because each account is one look-up in the
-- unique index, which the planner does not see while the tables are young and have no statistics.
CREATE FUNCTION ledger_lock_accounts(
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

-- Posts a batch and returns the transaction id of each posting, in order: a new one, or that of the first posting under the key.
-- PV001: the input is malformed. PV002: a key was used with another body, a hold or a reversal is taken.
-- Legs name an account by its code alone: a partner's code means the posting's own partner, so two partners cannot meet in
-- one transaction.
CREATE FUNCTION ledger_post(
    _booked_at timestamptz, _ids uuid[], _partners uuid[], _kinds text[], _references text[], _keys text[], _descriptions text[],
    _effective_at timestamptz[], _reverses uuid[], _holds uuid[], _leg_posting integer[], _leg_code text[], _leg_cents bigint[]
) RETURNS uuid[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    the_house CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    postings CONSTANT integer := cardinality(_ids);
    pid CONSTANT integer := pg_backend_pid();
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
                                    cardinality(_descriptions), cardinality(_effective_at), cardinality(_reverses), cardinality(_holds)]) THEN
        RAISE EXCEPTION 'the lists of a batch differ in length or hold nulls' USING ERRCODE = 'PV001';
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
        SELECT posting, string_agg(ledger_leg_bytes(code, cents), ''::bytea ORDER BY code, cents) AS bytes
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

    -- The accounts, each in a slot. A hot house account is several rows; each connection keeps to one of them.
    SELECT array_agg(l.slot ORDER BY l.n), array_agg(l.scope ORDER BY l.slot) FILTER (WHERE l.first),
           array_agg(l.code ORDER BY l.slot) FILTER (WHERE l.first), array_agg(l.shard ORDER BY l.slot) FILTER (WHERE l.first)
    INTO leg_slots, account_scopes, account_codes, account_shards FROM (
        SELECT p.n, p.scope, p.code, p.shard, dense_rank() OVER (ORDER BY p.scope, p.code) AS slot,
               row_number() OVER (PARTITION BY p.scope, p.code ORDER BY p.n) = 1 AS first
        FROM (SELECT l.n, CASE WHEN c.house THEN the_house ELSE scopes[l.posting] END AS scope, c.code, (pid % c.shards)::smallint AS shard
              FROM unnest(_leg_posting, _leg_code) WITH ORDINALITY AS l(posting, code, n) JOIN ledger_chart c ON c.code = l.code) AS p) AS l;
    SELECT * INTO account_ids, balances, versions FROM ledger_lock_accounts(account_scopes, account_codes, account_shards);

    INSERT INTO ledger_transactions (id, partner_id, kind, reference, key, description, effective_at, booked_at, reverses, written_by)
    SELECT p.id, p.partner, p.kind, p.reference, p.key, p.description, p.effective_at, _booked_at, p.reverses,
           pg_current_xact_id()::text::bigint + b.base
    FROM ledger_write_base b, unnest(_ids, _partners, _kinds, _references, _keys, _descriptions, _effective_at, _reverses)
         WITH ORDINALITY AS p(id, partner, kind, reference, key, description, effective_at, reverses, n)
    WHERE fresh[p.n];

    WITH written AS (
        INSERT INTO ledger_entries (transaction_id, leg, account_id, amount_cents, balance_before_cents, balance_after_cents, account_version)
        SELECT _ids[l.posting], row_number() OVER (PARTITION BY l.posting ORDER BY l.n), account_ids[l.slot], l.cents,
               balances[l.slot] + sum(l.cents) OVER running - l.cents, balances[l.slot] + sum(l.cents) OVER running,
               versions[l.slot] + row_number() OVER running
        FROM unnest(_leg_posting, _leg_cents, leg_slots) WITH ORDINALITY AS l(posting, cents, slot, n)
        WINDOW running AS (PARTITION BY l.slot ORDER BY l.n)
        RETURNING account_id, amount_cents)
    UPDATE ledger_accounts a SET balance_cents = a.balance_cents + total.cents, version = a.version + total.entries
    FROM (SELECT account_id, sum(amount_cents) AS cents, count(*) AS entries FROM written GROUP BY account_id) AS total
    WHERE a.id = total.account_id;

    IF cardinality(array_remove(_reverses, NULL)) > 0 THEN PERFORM ledger_link_reversals(_ids, _partners, _reverses, fresh); END IF;
    IF cardinality(array_remove(_holds, NULL)) > 0 THEN
        PERFORM ledger_capture_holds(_booked_at, answers, scopes, _holds, fresh, _leg_posting, _leg_code, _leg_cents);
    END IF;
    RETURN answers;
END $$;

-- A reversal undoes one original of its own partner, to the cent and account, once; a reversal itself is not reversed.
CREATE FUNCTION ledger_link_reversals(_ids uuid[], _partners uuid[], _reverses uuid[], _fresh boolean[])
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

-- Resolves holds by the postings that capture them. The accounts are locked by ledger_post, which guards their holds too.
CREATE FUNCTION ledger_capture_holds(
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
    WHERE w.hold IS NOT NULL AND (h.id IS NULL OR (_fresh[w.n] AND h.state <> 'held') OR (NOT _fresh[w.n] AND h.transaction_id IS DISTINCT FROM w.id))
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
"""

HOLDS = """
-- Places holds in order, each against what the ones before it left available. One row a request: the hold's id, or null and
-- what was available. A key that has a hold, held or captured, gives that one back.
CREATE FUNCTION ledger_hold(_now timestamptz, _ids uuid[], _partners uuid[], _codes text[], _keys text[], _cents bigint[])
RETURNS TABLE (hold_id uuid, available_cents bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
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
    left_over bigint[] := array_fill(0::bigint, ARRAY[requests]);
BEGIN
    IF requests = 0 THEN RETURN; END IF;
    IF NOT requests = ALL (ARRAY[cardinality(_partners), cardinality(_codes), cardinality(_keys), cardinality(_cents)])
       OR EXISTS (SELECT FROM unnest(_partners, _codes, _cents) AS r(partner, code, cents) LEFT JOIN ledger_chart c ON c.code = r.code
                  WHERE r.partner IS NULL OR c.holdable IS NOT TRUE OR r.cents IS NULL OR r.cents <= 0) THEN
        RAISE EXCEPTION 'a hold is a positive amount on a partner''s holdable account' USING ERRCODE = 'PV001';
    END IF;
    PERFORM ledger_lock_accounts(array_agg(a.partner), array_agg(a.code), array_agg(0::smallint))
    FROM (SELECT DISTINCT r.partner, r.code FROM unnest(_partners, _codes) AS r(partner, code)) AS a;
    IF EXISTS (SELECT FROM unnest(_partners, _codes, _keys, _cents) AS r(partner, code, key, cents)
               GROUP BY r.partner, r.key HAVING count(DISTINCT (r.code, r.cents)) > 1)
       OR EXISTS (SELECT FROM unnest(_partners, _codes, _keys, _cents) AS r(partner, code, key, cents)
                  JOIN ledger_holds h ON h.partner_id = r.partner AND h.key = r.key AND h.state <> 'released'
                  JOIN ledger_accounts a ON a.id = h.account_id WHERE a.code <> r.code OR h.amount_cents <> r.cents) THEN
        RAISE EXCEPTION 'a key of the batch holds another amount or account already' USING ERRCODE = 'PV002';
    END IF;
    FOR request IN
        SELECT r.n, r.id, r.partner, r.key, r.cents, a.id AS account_id,
               CASE a.normal_side WHEN 'credit' THEN -a.balance_cents ELSE a.balance_cents END - a.held_cents AS available
        FROM (SELECT DISTINCT ON (u.partner, u.key) u.* FROM unnest(_ids, _partners, _codes, _keys, _cents) WITH ORDINALITY
                  AS u(id, partner, code, key, cents, n) ORDER BY u.partner, u.key, u.n) AS r
        JOIN ledger_accounts a ON a.scope = r.partner AND a.code = r.code AND a.shard = 0
        WHERE NOT EXISTS (SELECT FROM ledger_holds h WHERE h.partner_id = r.partner AND h.key = r.key AND h.state <> 'released')
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
        END IF;
    END LOOP;
    INSERT INTO ledger_holds (id, account_id, partner_id, key, amount_cents, placed_at)
    SELECT t.id, t.account_id, t.partner, t.key, t.cents, _now
    FROM unnest(taken_ids, taken_accounts, taken_partners, taken_keys, taken_cents) AS t(id, account_id, partner, key, cents);
    UPDATE ledger_accounts a SET held_cents = a.held_cents + total.cents
    FROM (SELECT t.account_id, sum(t.cents) AS cents FROM unnest(taken_accounts, taken_cents) AS t(account_id, cents) GROUP BY 1) AS total
    WHERE a.id = total.account_id;
    RETURN QUERY SELECT h.id, left_over[r.n] FROM unnest(_partners, _keys) WITH ORDINALITY AS r(partner, key, n)
        LEFT JOIN ledger_holds h ON h.partner_id = r.partner AND h.key = r.key AND h.state <> 'released' ORDER BY r.n;
END $$;

-- Gives held money back and returns how many holds that ended; a released hold stays released, a captured one is refused.
CREATE FUNCTION ledger_release(_now timestamptz, _holds uuid[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    wrong record;
    released bigint;
BEGIN
    PERFORM FROM ledger_accounts a WHERE a.id IN (SELECT h.account_id FROM ledger_holds h WHERE h.id = ANY (_holds))
    ORDER BY a.id FOR NO KEY UPDATE;
    SELECT w.hold, h.state INTO wrong FROM unnest(_holds) AS w(hold) LEFT JOIN ledger_holds h ON h.id = w.hold
    WHERE h.state IS NULL OR h.state = 'captured' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'hold % cannot be released: %', wrong.hold, CASE wrong.state WHEN 'captured' THEN 'it is captured already' ELSE 'there is none of that id' END
            USING ERRCODE = 'PV002';
    END IF;
    WITH done AS (
        UPDATE ledger_holds h SET state = 'released', resolved_at = _now WHERE h.id = ANY (_holds) AND h.state = 'held'
        RETURNING h.account_id, h.amount_cents),
    freed AS (
        UPDATE ledger_accounts a SET held_cents = a.held_cents - total.cents
        FROM (SELECT account_id, sum(amount_cents) AS cents FROM done GROUP BY account_id) AS total WHERE a.id = total.account_id)
    SELECT count(*) INTO released FROM done;
    RETURN released;
END $$;
"""

SEALS = """
-- What is true of all transactions written from `_from` to before `_upto`: the one place that says what a seal covers.
CREATE FUNCTION ledger_digest(_from bigint, _upto bigint)
RETURNS TABLE (transactions bigint, first_transaction uuid, last_transaction uuid, digest bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*), (array_agg(s.id ORDER BY s.written_by, s.id))[1], (array_agg(s.id ORDER BY s.written_by DESC, s.id DESC))[1],
           sha256(coalesce(string_agg(s.hash, ''::bytea ORDER BY s.written_by, s.id), ''))
    FROM (
        SELECT t.id, t.written_by, sha256(
            uuid_send(t.id) || uuid_send(coalesce(t.partner_id, '00000000-0000-0000-0000-000000000000')) || ledger_text_bytes(t.kind)
            || ledger_text_bytes(t.reference) || ledger_text_bytes(t.key) || ledger_text_bytes(t.description)
            || timestamptz_send(t.effective_at) || timestamptz_send(t.booked_at)
            || uuid_send(coalesce(t.reverses, '00000000-0000-0000-0000-000000000000')) || int8send(t.written_by)
            || (SELECT coalesce(string_agg(int2send(e.leg) || int8send(e.account_id) || int8send(e.amount_cents) || int8send(e.balance_before_cents)
                                           || int8send(e.account_version), ''::bytea ORDER BY e.leg), '')
                FROM ledger_entries e WHERE e.transaction_id = t.id)) AS hash
        FROM ledger_transactions t WHERE t.written_by >= _from AND t.written_by < _upto) AS s
$$;

CREATE FUNCTION ledger_chain(_before bytea, _number bigint, _from bigint, _upto bigint, _transactions bigint, _digest bytea)
RETURNS bytea LANGUAGE sql IMMUTABLE
RETURN sha256(_before || int8send(_number) || int8send(_from) || int8send(_upto) || int8send(_transactions) || _digest);

-- Seals the next transactions, about `_most` of them, and returns how many (0: nothing to seal).
-- A seal covers a range of database transactions, and only those below the oldest one still running anywhere on this server:
-- each of them has committed, so that all its postings are seen here, or never will. So no commit, however late, can slip
-- behind a seal, whatever the clocks that made the ids say.
CREATE FUNCTION ledger_seal(_now timestamptz, _most integer)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
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
    SELECT * INTO sealed FROM ledger_digest(start, cut);
    next_number := coalesce(former.number, 0) + 1;
    INSERT INTO ledger_seals (number, from_write, upto_write, first_transaction, last_transaction, transactions, digest, chain, sealed_at)
    VALUES (next_number, start, cut, sealed.first_transaction, sealed.last_transaction, sealed.transactions, sealed.digest,
            ledger_chain(coalesce(former.chain, ''), next_number, start, cut, sealed.transactions, sealed.digest), _now);
    RETURN sealed.transactions;
END $$;

-- Keeps written_by growing on a server whose transaction ids are lower than those of the server the ledger came from.
-- Run by every migration, as the owner, while nothing else posts.
CREATE FUNCTION ledger_adopt_server() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    highest bigint;
BEGIN
    SELECT greatest(coalesce((SELECT max(written_by) FROM ledger_transactions), 0) + 1,
                    coalesce((SELECT max(upto_write) FROM ledger_seals), 0)) INTO highest;
    UPDATE ledger_write_base SET base = highest - pg_current_xact_id()::text::bigint
    WHERE base + pg_current_xact_id()::text::bigint < highest;
END $$;

REVOKE ALL ON FUNCTION ledger_lock_accounts, ledger_post, ledger_link_reversals, ledger_capture_holds, ledger_hold, ledger_release,
    ledger_seal, ledger_adopt_server FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_post, ledger_hold, ledger_release, ledger_seal TO vault_app;
"""


def upgrade() -> None:
    for part in (SQL, GUARDS, POST, HOLDS, SEALS):
        run_sql(op.get_bind(), part)
