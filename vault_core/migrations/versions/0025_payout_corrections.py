"""Cases that people close, above a limit two of them; and payouts that are booked as paid and were not, or the other way round."""

from alembic import op

from vault_core.database import run_sql

revision = "0025"
down_revision = "0024"

CLOSINGS = """
-- A person's word that nothing more is to do about a case. Above a limit another person decides whether it is believed.
CREATE TABLE case_closings (
    id uuid PRIMARY KEY,
    case_id uuid NOT NULL REFERENCES cases,
    reason text NOT NULL CHECK (reason <> ''),
    evidence text NOT NULL CHECK (evidence <> ''),
    second_person boolean NOT NULL,
    proposed_by text NOT NULL CHECK (proposed_by <> ''),
    proposed_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'proposed' CHECK (state IN ('proposed', 'applied', 'rejected', 'overtaken')),
    decided_by text CHECK (decided_by <> ''),
    decided_at timestamptz CHECK (decided_at >= proposed_at),
    decision_note text,
    CHECK ((state = 'proposed') = (decided_at IS NULL) AND (state = 'proposed') = (decided_by IS NULL)),
    CHECK (state <> 'rejected' OR decision_note <> ''),
    CONSTRAINT case_closings_second_person CHECK (state <> 'applied' OR NOT second_person OR decided_by <> proposed_by)
);
CREATE UNIQUE INDEX case_closings_open ON case_closings (case_id) WHERE state = 'proposed';

-- What was proposed stands as it was proposed, and is decided once (cases/functions/10_closings.sql).
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON case_closings FROM vault_app;
GRANT INSERT (id, case_id, reason, evidence, second_person, proposed_by, proposed_at) ON case_closings TO vault_app;
GRANT UPDATE (state, decided_by, decided_at, decision_note) ON case_closings TO vault_app;
"""

CORRECTIONS = """
-- What overturns a booked verdict ('paid, receipt UKO1234567', 'failed with 8') is never one person's word alone.
ALTER TABLE disbursement_resolutions
    ADD COLUMN overturns text CHECK (overturns <> ''),
    ADD CONSTRAINT disbursement_resolutions_overturns CHECK (overturns IS NULL OR second_person);
GRANT INSERT (overturns) ON disbursement_resolutions TO vault_app;

-- How often a payment booked for it was taken back: part of the keys of whatever is booked after that.
ALTER TABLE disbursements ADD COLUMN taken_back integer NOT NULL DEFAULT 0 CHECK (taken_back >= 0);

-- What was charged for it stays charged, and its reversal with it; a payment after that has lines of its own.
ALTER TABLE charge_lines
    ADD COLUMN round integer NOT NULL DEFAULT 0 CHECK (round >= 0),
    DROP CONSTRAINT charge_lines_subject_kind_subject_id_line_key,
    ADD CONSTRAINT charge_lines_once UNIQUE (subject_kind, subject_id, round, line);

-- A posting whose payment was taken back in our books may still stand in Mifos X: when to look whether it was undone there; null when
-- nothing is to be seen any more.
ALTER TABLE core_postings ADD COLUMN undo_look_at timestamptz;
CREATE INDEX core_postings_to_be_undone ON core_postings (undo_look_at) WHERE undo_look_at IS NOT NULL;
"""


def upgrade() -> None:
    for sql in (CLOSINGS, CORRECTIONS):
        run_sql(op.get_bind(), sql)
