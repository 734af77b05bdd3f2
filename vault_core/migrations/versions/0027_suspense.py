"""Payments that found no account, or the wrong one: assigned, moved and given back, above a limit by two people."""

from alembic import op

from vault_core.database import run_sql

revision = "0027"
down_revision = "0026"

SQL = """
-- A posting that was refused, or was undone in Mifos X, is history: the next one of its subject lives beside it. A payment may be
-- shared between accounts, so what holds it together is its amount (collections/functions/10_postings_and_decisions.sql).
ALTER TABLE core_postings
    DROP CONSTRAINT core_postings_kind_subject_id_key,
    DROP CONSTRAINT core_postings_state_check,
    ADD CONSTRAINT core_postings_state_check CHECK (state IN ('intended', 'unknown', 'posted', 'refused', 'undone'));
CREATE UNIQUE INDEX core_postings_one_disbursal ON core_postings (subject_id) WHERE kind = 'disburse' AND state NOT IN ('refused', 'undone');
CREATE INDEX core_postings_of ON core_postings (subject_id);

-- in_suspense: its money stands in the partner's suspense account, whatever is being done about it.
-- post_all: a person said that all of it belongs to the loan, whatever is owed on it.
ALTER TABLE collections
    ADD COLUMN in_suspense boolean NOT NULL DEFAULT false,
    ADD COLUMN post_all boolean NOT NULL DEFAULT false;
UPDATE collections SET in_suspense = true WHERE state = 'suspense';
ALTER TABLE collections
    DROP CONSTRAINT collections_state_check,
    ADD CONSTRAINT collections_state_check CHECK (state IN (
        'matching', 'posting', 'posted', 'suspense', 'needs_review', 'reversing', 'reversed')),
    ADD CONSTRAINT collections_in_suspense CHECK (CASE
        WHEN state IN ('suspense', 'reversing') THEN in_suspense WHEN state IN ('matching', 'posted', 'reversed') THEN NOT in_suspense
        ELSE true END);
DROP INDEX collections_open;
CREATE INDEX collections_open ON collections (partner_id, state) WHERE state NOT IN ('posted', 'reversed');
CREATE INDEX collections_by_receipt ON collections (receipt);

-- What is done with more than is owed on a loan, and how much one person may assign alone (null: as the installation says).
ALTER TABLE collection_settings
    ADD COLUMN overpayment text NOT NULL DEFAULT 'post_all' CHECK (overpayment IN ('post_all', 'to_savings', 'hold')),
    ADD COLUMN assign_alone_up_to_cents bigint CHECK (assign_alone_up_to_cents >= 0);

-- What a person decided about one payment: which account it is for, that it was posted to the wrong one, or that M-Pesa shall give
-- it back. Above a limit, and for what leaves M-Pesa always, another person must agree before anything is done.
CREATE TABLE collection_decisions (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    collection_id uuid NOT NULL REFERENCES collections,
    kind text NOT NULL CHECK (kind IN ('assign', 'move', 'reverse')),
    account_kind text CHECK (account_kind IN ('loan', 'savings')),
    account_id bigint,
    account_no text,
    client_id bigint,
    post_all boolean NOT NULL DEFAULT false,
    remember boolean NOT NULL DEFAULT false,  -- what the payer typed names this account from now on
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    reason text NOT NULL CHECK (reason <> ''),
    second_person boolean NOT NULL,
    proposed_by text NOT NULL CHECK (proposed_by <> ''),
    proposed_at timestamptz NOT NULL,
    lapses_at timestamptz NOT NULL CHECK (lapses_at > proposed_at),
    state text NOT NULL DEFAULT 'proposed' CHECK (state IN ('proposed', 'approved', 'done', 'failed', 'rejected', 'lapsed')),
    decided_by text CHECK (decided_by <> ''),
    decided_at timestamptz CHECK (decided_at >= proposed_at),
    decision_note text,
    ended_at timestamptz,                     -- by another process's clock
    effect text,                              -- what carrying it out did
    CHECK ((account_kind IS NULL) = (account_id IS NULL) AND (account_kind IS NULL) = (account_no IS NULL)),
    CHECK (CASE kind WHEN 'assign' THEN account_kind IS NOT NULL WHEN 'reverse' THEN account_kind IS NULL ELSE true END),
    CHECK (kind <> 'reverse' OR second_person),
    CHECK ((state = 'proposed') = (decided_at IS NULL)),
    CHECK ((state IN ('approved', 'done', 'failed', 'rejected')) = (decided_by IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (ended_at IS NOT NULL) AND (ended_at IS NULL) = (effect IS NULL)),
    CHECK (state <> 'rejected' OR decision_note <> ''),
    CONSTRAINT collection_decisions_second_person
        CHECK (state NOT IN ('approved', 'done', 'failed') OR NOT second_person OR decided_by <> proposed_by)
);
CREATE UNIQUE INDEX collection_decisions_one ON collection_decisions (collection_id) WHERE state IN ('proposed', 'approved');
CREATE INDEX collection_decisions_of ON collection_decisions (collection_id);
CREATE INDEX collection_decisions_open ON collection_decisions (lapses_at) WHERE state = 'proposed';
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON collection_decisions FROM vault_app;
GRANT INSERT (id, partner_id, collection_id, kind, account_kind, account_id, account_no, client_id, post_all, remember, amount_cents,
              reason, second_person, proposed_by, proposed_at, lapses_at)
    ON collection_decisions TO vault_app;
GRANT UPDATE (state, decided_by, decided_at, decision_note, ended_at, effect) ON collection_decisions TO vault_app;

-- M-Pesa is asked to give one payment back. Written before it is sent; its id stands in the URLs of its answers.
CREATE TABLE reversal_requests (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    collection_id uuid NOT NULL REFERENCES collections,
    decision_id uuid NOT NULL UNIQUE REFERENCES collection_decisions,
    short_code text NOT NULL,
    receipt text NOT NULL,                    -- of the payment
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    written_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'written' CHECK (state IN ('written', 'sending', 'accepted', 'unknown', 'failed', 'done')),
    sends integer NOT NULL DEFAULT 0,         -- each counted and committed before it left
    sent_at timestamptz,
    answer text,
    originator_conversation_id text UNIQUE,   -- M-Pesa makes both: a reversal has no id of ours on the wire
    conversation_id text UNIQUE,
    questions integer NOT NULL DEFAULT 0,
    next_at timestamptz,                      -- of the next sending or question; null: it is over, or with a person
    result_at timestamptz,
    result_code text,
    result_text text,
    result_event_id uuid,
    reversal_receipt text,
    CHECK ((state = 'done') = (reversal_receipt IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (result_at IS NOT NULL))
);
CREATE UNIQUE INDEX reversal_requests_one ON reversal_requests (collection_id) WHERE state <> 'failed';
CREATE INDEX reversal_requests_due ON reversal_requests (next_at) WHERE next_at IS NOT NULL;
CREATE TABLE reversal_questions (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    request_id uuid NOT NULL REFERENCES reversal_requests,
    asked_at timestamptz NOT NULL,
    outcome text,
    originator_conversation_id text UNIQUE,
    conversation_id text UNIQUE,
    answered_at timestamptz,
    result_code text,
    transaction_status text,
    answer_event_id uuid
);
CREATE INDEX reversal_questions_of ON reversal_questions (request_id);
REVOKE DELETE, TRUNCATE ON reversal_requests, reversal_questions FROM vault_app;

ALTER TABLE rail_lines
    DROP CONSTRAINT rail_lines_rail_check,
    ADD CONSTRAINT rail_lines_rail_check CHECK (rail IN ('mpesa_b2c', 'mpesa_c2b', 'mpesa_reversal'));
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
