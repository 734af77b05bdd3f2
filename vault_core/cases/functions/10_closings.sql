-- What a person proposed about a case is decided once.
CREATE OR REPLACE FUNCTION case_closing_is_decided_once() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'proposed' THEN
        RAISE EXCEPTION 'closing % is % already', OLD.id, OLD.state USING ERRCODE = 'PV002';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER decided_once BEFORE UPDATE ON case_closings
    FOR EACH ROW EXECUTE FUNCTION case_closing_is_decided_once();
