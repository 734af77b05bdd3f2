"""Loan tranches to pay, B2C instructions written before they are sent, questions about them, postings to Mifos X."""

from alembic import op

from vault_core.database import run_sql

revision = "0004"
down_revision = "0003"

SQL = """
-- One Dagster run pays one batch.
CREATE TABLE disbursement_batches (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    formed_at timestamptz NOT NULL,
    loans integer NOT NULL,
    finished_at timestamptz
);

CREATE TABLE disbursements (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    loan_id bigint NOT NULL,
    tranche integer NOT NULL DEFAULT 1,
    loan_account_no text NOT NULL,
    loan_external_id text,
    product_id bigint NOT NULL,
    client_id bigint,
    client_name_sealed bytea,
    phone_sealed bytea,
    phone_hash bytea,
    currency text NOT NULL,
    principal_cents bigint NOT NULL CHECK (principal_cents > 0),   -- posted to Mifos X
    payout_cents bigint NOT NULL,                                  -- paid: principal less charges due at disbursement
    approved_on date NOT NULL,
    state text NOT NULL CHECK (state IN ('detected', 'held', 'ready', 'sending', 'accepted', 'unknown', 'refused', 'paid',
                                         'failed', 'posting', 'disbursed', 'needs_review')),
    reason text,                          -- of held, failed, refused, needs_review: what it is and what to do
    held_for text CHECK (held_for IN ('wallet_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency',
                                      'unresolved_payout', 'partner_halted', 'group_loan', 'tranche_loan', 'not_approved')),
    needed_cents bigint,                  -- of held for the wallet: what its charges need
    found_by text NOT NULL CHECK (found_by IN ('poll', 'hook')),
    detected_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,          -- of the next look or try (held, failed that may be retried)
    tries integer NOT NULL DEFAULT 0,     -- B2C instructions made
    batch_id uuid REFERENCES disbursement_batches,
    hold_id uuid REFERENCES ledger_holds,
    receipt text,
    paid_at timestamptz,
    posted_at timestamptz,
    UNIQUE (partner_id, loan_id, tranche),
    CHECK ((state = 'held') = (held_for IS NOT NULL)),
    CHECK (state NOT IN ('paid', 'posting', 'disbursed') OR receipt IS NOT NULL)
);
CREATE INDEX disbursements_to_do ON disbursements (partner_id, state, due_at)
    WHERE state NOT IN ('disbursed', 'needs_review');
CREATE INDEX disbursements_by_batch ON disbursements (batch_id) WHERE state = 'ready';
CREATE INDEX disbursements_by_payee ON disbursements (partner_id, phone_hash)
    WHERE state IN ('held', 'ready', 'sending', 'accepted', 'unknown', 'refused', 'needs_review');
CREATE INDEX disbursements_by_day ON disbursements (partner_id, paid_at);

-- One B2C instruction. Written and committed before it is sent; a resend uses the same originator conversation id.
CREATE TABLE disbursement_attempts (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    disbursement_id uuid NOT NULL REFERENCES disbursements,
    number integer NOT NULL,
    originator_conversation_id text NOT NULL UNIQUE,
    conversation_id text,                 -- M-Pesa's own; written once
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    state text NOT NULL CHECK (state IN ('written', 'accepted', 'refused', 'unknown', 'paid', 'failed')),
    written_at timestamptz NOT NULL,
    sends integer NOT NULL DEFAULT 1,     -- times it was claimed to be sent, always under the same id
    send_by timestamptz NOT NULL,         -- of the last claim: no call is begun after it, so later nobody is sending it
    maybe_seen boolean NOT NULL DEFAULT false,  -- an answer was missing or unclear once: M-Pesa may know the id already
    answered_at timestamptz,
    answer text,                          -- code and words of the synchronous answer
    result_at timestamptz,
    result_code text,
    result_text text,
    result_event_id uuid,                 -- the delivery that decided it
    receipt text,
    utility_balance_cents bigint,         -- M-Pesa's word on the utility account after it
    receiver_name_sealed bytea,
    query_at timestamptz,                 -- when to ask about it next; null: no more questions
    queries integer NOT NULL DEFAULT 0,
    UNIQUE (disbursement_id, number)
);
-- 'refused' is open too: nothing happened as far as the answer says, and the same id goes again. Only 'failed' is dead.
-- At most one instruction of a disbursement may be able to move money.
CREATE UNIQUE INDEX disbursement_attempts_one_open ON disbursement_attempts (disbursement_id)
    WHERE state IN ('written', 'accepted', 'unknown', 'refused', 'paid');
CREATE INDEX disbursement_attempts_conversation ON disbursement_attempts (conversation_id);
CREATE INDEX disbursement_attempts_by_day ON disbursement_attempts (partner_id, written_at);
CREATE INDEX disbursement_attempts_to_query ON disbursement_attempts (query_at) WHERE query_at IS NOT NULL;

-- A question about a payment; its answer comes on the result URL under its own ids.
CREATE TABLE status_queries (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    attempt_id uuid NOT NULL REFERENCES disbursement_attempts,
    originator_conversation_id text UNIQUE,
    conversation_id text UNIQUE,
    asked_at timestamptz NOT NULL,
    outcome text,
    answered_at timestamptz,
    result_code text,
    transaction_status text,
    answer_event_id uuid
);

-- One intended write to Mifos X.
CREATE TABLE core_postings (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    kind text NOT NULL CHECK (kind IN ('disburse', 'repayment', 'deposit')),
    subject_id uuid NOT NULL,             -- the disbursement or collection
    account_id bigint NOT NULL,           -- Mifos X loan or savings id
    external_id text NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE,
    receipt text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    transaction_date date NOT NULL,       -- the tenant's business date of the money
    account_number_sealed bytea,          -- msisdn
    state text NOT NULL DEFAULT 'intended' CHECK (state IN ('intended', 'unknown', 'posted', 'refused')),
    mifos_transaction_id bigint,
    posted_at timestamptz,
    last_answer text,
    tries integer NOT NULL DEFAULT 0,     -- calls made, each counted and committed before it was made
    key_tries integer NOT NULL DEFAULT 0, -- of them under the present idempotency key
    called_at timestamptz,                -- of the last call
    lease_until timestamptz,              -- while one worker has it: calls for one account never overlap
    created_at timestamptz NOT NULL,
    UNIQUE (kind, subject_id)
);
CREATE INDEX core_postings_under_way ON core_postings (partner_id, account_id) WHERE lease_until IS NOT NULL;
CREATE INDEX core_postings_by_day ON core_postings (partner_id, posted_at);

-- One receipt on a money rail, as the rail's own evidence says (result, confirmation, status answer, statement).
CREATE TABLE rail_lines (
    rail text NOT NULL CHECK (rail IN ('mpesa_b2c', 'mpesa_c2b')),
    short_code text NOT NULL,
    receipt text NOT NULL,
    partner_id uuid NOT NULL REFERENCES partners,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    happened_at timestamptz NOT NULL,
    evidence_event_id uuid NOT NULL,
    PRIMARY KEY (short_code, receipt)
);
CREATE INDEX rail_lines_by_day ON rail_lines (partner_id, happened_at);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
