"""Wallets put right by hand: one person proposes, another decides. Texts about a shortage that is over are withdrawn."""

from alembic import op

from vault_core.database import run_sql

revision = "0015"
down_revision = "0014"

SQL = """
-- The other side of what people put right in wallets: money credited that nobody paid in is a debit, the house's cost.
INSERT INTO ledger_chart (code, house, normal_side, holdable, shards) VALUES ('adjustments', true, 'debit', false, 8);

-- A wallet put right by hand: one person proposes, another decides. Only an approved one is posted.
CREATE TABLE wallet_adjustments (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('correction', 'reversal')),
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),   -- positive: the wallet gains
    original_transaction uuid,            -- of a reversal: what it undoes
    reference text NOT NULL CHECK (reference <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    proposed_by text NOT NULL CHECK (proposed_by <> ''),
    proposed_at timestamptz NOT NULL,
    lapses_at timestamptz NOT NULL CHECK (lapses_at > proposed_at),
    hold_id uuid REFERENCES ledger_holds,  -- of one that takes money: so that it is there when it is approved
    state text NOT NULL DEFAULT 'proposed' CHECK (state IN ('proposed', 'approved', 'rejected', 'lapsed')),
    decided_by text CHECK (decided_by <> ''),
    decided_at timestamptz CHECK (decided_at >= proposed_at),
    decision_note text,
    transaction_id uuid UNIQUE,
    CHECK ((kind = 'reversal') = (original_transaction IS NOT NULL)),
    CHECK ((amount_cents < 0) = (hold_id IS NOT NULL)),
    CHECK ((state = 'proposed') = (decided_at IS NULL)),
    CHECK ((state IN ('approved', 'rejected')) = (decided_by IS NOT NULL)),
    CHECK ((state = 'approved') = (transaction_id IS NOT NULL)),
    CHECK (state <> 'rejected' OR decision_note <> ''),
    CONSTRAINT wallet_adjustments_second_person CHECK (state <> 'approved' OR decided_by <> proposed_by)
);
-- What was rejected or has lapsed may be proposed anew under its reference.
CREATE UNIQUE INDEX wallet_adjustments_reference ON wallet_adjustments (partner_id, reference) WHERE state IN ('proposed', 'approved');
CREATE UNIQUE INDEX wallet_adjustments_original ON wallet_adjustments (original_transaction) WHERE state IN ('proposed', 'approved');
CREATE INDEX wallet_adjustments_open ON wallet_adjustments (lapses_at) WHERE state = 'proposed';

-- What was proposed stands as it was proposed, and is decided once.
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON wallet_adjustments FROM vault_app;
GRANT INSERT (id, partner_id, kind, amount_cents, original_transaction, reference, reason, proposed_by, proposed_at, lapses_at, hold_id)
    ON wallet_adjustments TO vault_app;
GRANT UPDATE (state, decided_by, decided_at, decision_note, transaction_id) ON wallet_adjustments TO vault_app;

CREATE FUNCTION wallet_adjustment_is_decided_once() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'proposed' THEN
        RAISE EXCEPTION 'adjustment % is % already: propose another one instead', OLD.id, OLD.state USING ERRCODE = 'PV002';
    END IF;
    IF NEW.state = 'approved' AND NEW.amount_cents IS DISTINCT FROM (
        SELECT -sum(e.amount_cents) FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.partner_id = NEW.partner_id AND a.code = 'wallet'
        WHERE t.id = NEW.transaction_id AND t.key = 'adjustment:' || NEW.id) THEN
        RAISE EXCEPTION 'adjustment % is not posted as it was proposed', NEW.id USING ERRCODE = 'PV001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER decided_once BEFORE UPDATE ON wallet_adjustments FOR EACH ROW EXECUTE FUNCTION wallet_adjustment_is_decided_once();
CREATE TRIGGER append_only BEFORE DELETE ON wallet_adjustments FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON wallet_adjustments FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Withdrawn: what it told was over before a gateway could be handed it.
ALTER TABLE messages DROP CONSTRAINT messages_state_check;
ALTER TABLE messages ADD CONSTRAINT messages_state_check
    CHECK (state IN ('queued', 'unknown', 'accepted', 'delivered', 'refused', 'withdrawn'));
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
