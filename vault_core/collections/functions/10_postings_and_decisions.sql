-- What lives of a payment's postings to Mifos X is never more than the payment, whoever writes: posted twice is not possible here.
CREATE OR REPLACE FUNCTION collection_is_posted_once() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    paid bigint;
    living bigint;
BEGIN
    SELECT amount_cents INTO paid FROM collections WHERE id = NEW.subject_id FOR NO KEY UPDATE;
    SELECT sum(amount_cents) INTO living FROM core_postings
    WHERE subject_id = NEW.subject_id AND kind IN ('repayment', 'deposit') AND state NOT IN ('refused', 'undone');
    IF living > paid THEN
        RAISE EXCEPTION 'payment % is of % cents, and postings of % would live', NEW.subject_id, paid, living USING ERRCODE = 'PV002';
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER posted_once AFTER INSERT ON core_postings
    FOR EACH ROW WHEN (NEW.kind IN ('repayment', 'deposit')) EXECUTE FUNCTION collection_is_posted_once();
CREATE OR REPLACE TRIGGER still_posted_once AFTER UPDATE OF amount_cents, state ON core_postings
    FOR EACH ROW WHEN (NEW.kind IN ('repayment', 'deposit')
                       AND (NEW.amount_cents > OLD.amount_cents OR (OLD.state IN ('refused', 'undone') AND NEW.state <> OLD.state)))
    EXECUTE FUNCTION collection_is_posted_once();

-- What a person decided about a payment goes one way: proposed, agreed to, carried out.
CREATE OR REPLACE FUNCTION collection_decision_goes_one_way() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT (CASE OLD.state WHEN 'proposed' THEN NEW.state IN ('approved', 'rejected', 'lapsed')
                           WHEN 'approved' THEN NEW.state IN ('done', 'failed') ELSE false END) THEN
        RAISE EXCEPTION 'decision % is % and cannot become %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER one_way BEFORE UPDATE ON collection_decisions
    FOR EACH ROW EXECUTE FUNCTION collection_decision_goes_one_way();

-- One person decides alone up to the installation's limit, or the partner's lower one: the application can write neither away
-- (vault_core/partners/person_limits.py). What a decision is about is counted here, not told.
CREATE OR REPLACE FUNCTION collection_decision_has_its_people() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    paid collections%ROWTYPE;
    due bigint;
    alone bigint;
BEGIN
    SELECT * INTO STRICT paid FROM collections WHERE id = NEW.collection_id FOR NO KEY UPDATE;
    SELECT paid.amount_cents - coalesce(sum(amount_cents) FILTER (WHERE NEW.kind = 'assign'), 0) INTO due FROM core_postings
    WHERE subject_id = paid.id AND kind IN ('repayment', 'deposit') AND state NOT IN ('refused', 'undone');
    IF (NEW.partner_id, NEW.amount_cents) IS DISTINCT FROM (paid.partner_id, due) THEN
        RAISE EXCEPTION 'a decision to % payment % is about % cents of its partner, not %', NEW.kind, paid.receipt, due, NEW.amount_cents
            USING ERRCODE = 'PV002';
    END IF;
    SELECT least(l.alone_up_to_cents, s.assign_alone_up_to_cents) INTO STRICT alone
    FROM person_limits l LEFT JOIN collection_settings s ON s.partner_id = paid.partner_id WHERE l.what = 'assign';
    IF NOT NEW.second_person AND due > alone THEN
        RAISE EXCEPTION 'payment % is of % cents, above the % that one person decides on alone', paid.receipt, due, alone
            USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER has_its_people BEFORE INSERT ON collection_decisions
    FOR EACH ROW EXECUTE FUNCTION collection_decision_has_its_people();

-- M-Pesa is asked to give back only what two people agreed on, whole, of that very payment.
CREATE OR REPLACE FUNCTION reversal_was_agreed_on() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM collection_decisions d JOIN collections c ON c.id = d.collection_id
                   WHERE d.id = NEW.decision_id AND d.kind = 'reverse' AND d.state = 'approved'
                         AND (c.id, c.partner_id, c.short_code, c.receipt, c.amount_cents)
                             = (NEW.collection_id, NEW.partner_id, NEW.short_code, NEW.receipt, NEW.amount_cents)) THEN
        RAISE EXCEPTION 'nobody agreed to give payment % back like this', NEW.receipt USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER agreed_on BEFORE INSERT OR UPDATE OF decision_id, collection_id, partner_id, short_code, receipt, amount_cents
    ON reversal_requests FOR EACH ROW EXECUTE FUNCTION reversal_was_agreed_on();
