"""What people do to payouts: stop all sending, hold one back, cancel it, and settle by evidence what M-Pesa left open."""

from alembic import op

from vault_core.database import run_sql

revision = "0018"
down_revision = "0017"

SQL = """
-- Nothing is sent to M-Pesa while one of these has not ended.
CREATE TABLE payout_halts (
    id uuid PRIMARY KEY,
    begun_at timestamptz NOT NULL,
    begun_by text NOT NULL CHECK (begun_by <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    ended_at timestamptz CHECK (ended_at >= begun_at),
    ended_by text CHECK (ended_by <> ''),
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE UNIQUE INDEX payout_halts_one ON payout_halts ((true)) WHERE ended_at IS NULL;
REVOKE DELETE, TRUNCATE ON payout_halts FROM vault_app;

ALTER TABLE disbursements
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency', 'unresolved_payout',
        'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'not_approved', 'sending_halted', 'by_person',
        'cancelled'));

-- How often M-Pesa refused it for a cause that every next one of the partner would meet (initiator, short code).
ALTER TABLE disbursement_attempts ADD COLUMN faults integer NOT NULL DEFAULT 0;
CREATE INDEX disbursement_attempts_faults ON disbursement_attempts (partner_id, written_at) WHERE faults > 0;

-- What a person found out about one instruction, outside. Above a limit another person decides whether it is believed.
CREATE TABLE disbursement_resolutions (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    disbursement_id uuid NOT NULL REFERENCES disbursements,
    attempt_id uuid NOT NULL REFERENCES disbursement_attempts,
    verdict text NOT NULL CHECK (verdict IN ('paid', 'not_paid')),
    receipt text CHECK (receipt <> ''),
    amount_cents bigint CHECK (amount_cents > 0),       -- that was paid
    paid_at timestamptz,
    evidence text NOT NULL CHECK (evidence <> ''),
    second_person boolean NOT NULL,
    proposed_by text NOT NULL CHECK (proposed_by <> ''),
    proposed_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'proposed' CHECK (state IN ('proposed', 'applied', 'rejected', 'overtaken')),
    decided_by text CHECK (decided_by <> ''),
    decided_at timestamptz CHECK (decided_at >= proposed_at),
    decision_note text,
    effect text,                          -- what applying it did
    CHECK ((verdict = 'paid') = (receipt IS NOT NULL)),
    CHECK ((receipt IS NULL) = (amount_cents IS NULL) AND (receipt IS NULL) = (paid_at IS NULL)),
    CHECK ((state = 'proposed') = (decided_at IS NULL) AND (state = 'proposed') = (decided_by IS NULL)),
    CHECK ((state = 'applied') = (effect IS NOT NULL)),
    CHECK (state <> 'rejected' OR decision_note <> ''),
    CONSTRAINT disbursement_resolutions_second_person CHECK (state <> 'applied' OR NOT second_person OR decided_by <> proposed_by)
);
CREATE UNIQUE INDEX disbursement_resolutions_open ON disbursement_resolutions (attempt_id) WHERE state = 'proposed';
CREATE INDEX disbursement_resolutions_of ON disbursement_resolutions (disbursement_id);

-- What was proposed stands as it was proposed, and is decided once (functions/10_resolutions.sql).
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON disbursement_resolutions FROM vault_app;
GRANT INSERT (id, partner_id, disbursement_id, attempt_id, verdict, receipt, amount_cents, paid_at, evidence, second_person,
              proposed_by, proposed_at)
    ON disbursement_resolutions TO vault_app;
GRANT UPDATE (state, decided_by, decided_at, decision_note, effect) ON disbursement_resolutions TO vault_app;

-- The story of one payout is read by its own references.
CREATE INDEX inbound_events_by_reference ON inbound_events (path_reference) WHERE path_reference IS NOT NULL;
CREATE INDEX status_queries_by_attempt ON status_queries (attempt_id);
CREATE INDEX cases_by_subject ON cases (subject text_pattern_ops);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
