-- What a person stated about a payout is decided once.
CREATE OR REPLACE FUNCTION disbursement_resolution_is_decided_once() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'proposed' THEN
        RAISE EXCEPTION 'resolution % is % already', OLD.id, OLD.state USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER decided_once BEFORE UPDATE ON disbursement_resolutions
    FOR EACH ROW EXECUTE FUNCTION disbursement_resolution_is_decided_once();
