"""What auditors rest on: seals that cover the names of accounts, captures of one hold each, charge lines and evidence that stay."""

from alembic import op

from vault_core.database import run_sql

revision = "0022"
down_revision = "0021"

SQL = """
-- 1: the digest does not cover what names an account, so two accounts of a partner could change places under it. 2: it does. Seals
-- that stand keep their format, and are proved by it.
ALTER TABLE ledger_seals ADD COLUMN format smallint NOT NULL DEFAULT 1 CHECK (format IN (1, 2));
ALTER TABLE ledger_seals ALTER COLUMN format DROP DEFAULT;
DROP FUNCTION IF EXISTS ledger_digest(bigint, bigint);

-- An account is whose and what it was made as. Fires for statements that name these columns: no posting does.
CREATE TRIGGER keeps_its_name BEFORE UPDATE OF partner_id, code, shard, normal_side, currency ON ledger_accounts
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();

-- A capture ends one hold. Two that name the same would both say that they took its money.
CREATE UNIQUE INDEX ledger_holds_capture ON ledger_holds (transaction_id) WHERE transaction_id IS NOT NULL;

-- What was charged stays as it was charged, whoever writes; a quote is forgotten or charged, never changed.
CREATE FUNCTION charge_line_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % % is charged already: % refused; reverse its transaction instead', OLD.line, OLD.subject_kind, OLD.subject_id,
        TG_OP USING ERRCODE = 'PV002';
END $$;
CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON charge_lines FOR EACH ROW WHEN (OLD.charged_at IS NOT NULL) EXECUTE FUNCTION charge_line_stays();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON charge_lines FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
REVOKE UPDATE, TRUNCATE ON charge_lines FROM vault_app;
GRANT UPDATE (charged_at, transaction_id) ON charge_lines TO vault_app;

-- What payments, charges and their proofs point at is written and moved on, and never taken away.
REVOKE DELETE, TRUNCATE ON partners, cases, collections, core_lines, core_postings, disbursements, disbursement_attempts, messages,
    message_attempts, mpesa_fee_readings, status_queries, wallet_alerts FROM vault_app;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
