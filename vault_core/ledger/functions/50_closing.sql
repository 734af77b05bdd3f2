-- The first instant that may be posted to: everything before it is closed.
CREATE OR REPLACE FUNCTION ledger_open_from() RETURNS timestamptz LANGUAGE sql STABLE
RETURN (SELECT coalesce(max(closed_before), '-infinity') FROM ledger_closings);
