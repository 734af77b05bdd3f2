"""The proofs of the ledger that were made: what was read, what was wrong, where the chain of seals stood."""

from alembic import op

from vault_core.database import run_sql

revision = "0012"
down_revision = "0011"

SQL = """
CREATE TABLE ledger_proofs (
    id uuid PRIMARY KEY,
    proved_at timestamptz NOT NULL,       -- when it ended
    proved_by text NOT NULL CHECK (proved_by <> ''),  -- 'ops:...', or 'schedule'
    from_seal bigint,                     -- history up to this seal was taken as given; null: the whole ledger was read
    head_seal bigint,                     -- the newest seal then, and its chain hash; null: nothing was sealed yet
    head_chain bytea,
    transactions bigint NOT NULL CHECK (transactions >= 0),
    entries bigint NOT NULL CHECK (entries >= 0),
    findings integer NOT NULL CHECK (findings >= 0),
    first_finding text,
    took interval NOT NULL,
    CHECK ((head_seal IS NULL) = (head_chain IS NULL)),
    CHECK ((findings = 0) = (first_finding IS NULL))
);
CREATE INDEX ledger_proofs_by_time ON ledger_proofs (proved_at);
-- What was found stays found.
REVOKE UPDATE, DELETE, TRUNCATE ON ledger_proofs FROM vault_app;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_proofs FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_proofs FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
