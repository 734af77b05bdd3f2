"""What M-Pesa says about the float of each B2C short code, what is asked about it, and what waits for it."""

from alembic import op

from vault_core.database import run_sql

revision = "0020"
down_revision = "0019"

SQL = """
-- The utility balance as M-Pesa told it, at most one row a second: of several the lowest, which only payouts can have made.
CREATE TABLE float_reports (
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    at timestamptz NOT NULL,                  -- by M-Pesa's clock, which counts seconds
    utility_cents bigint NOT NULL,            -- available
    working_cents bigint,
    charges_paid_cents bigint,
    source text NOT NULL CHECK (source IN ('result', 'balance_query')),
    event_id uuid NOT NULL,                   -- the delivery that said it
    received_at timestamptz NOT NULL,         -- by our clock: of several the last
    PRIMARY KEY (partner_id, short_code, at)
);

-- A partner's float as dispatch sees it beside the reports.
CREATE TABLE b2c_floats (
    partner_id uuid PRIMARY KEY REFERENCES partners,
    short_since timestamptz,                  -- a payout waits for float since then
    refused_at timestamptz,                   -- M-Pesa last refused one for it: nothing goes until a later report
    told_at timestamptz,                      -- of this shortage: when people were told
    query_at timestamptz,                     -- of the next balance question
    unanswered integer NOT NULL DEFAULT 0,    -- questions since the last answer that could be read
    probe_id uuid REFERENCES disbursements,   -- goes although no report covers it, because M-Pesa tells no balance
    probed_at timestamptz,
    settled_at timestamptz                    -- up to this report every movement is accounted for
) WITH (fillfactor = 70);

-- A question about balances, written before it is asked; its answer comes on the result URL under its own id.
CREATE TABLE balance_queries (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    asked_at timestamptz NOT NULL,
    outcome text,
    originator_conversation_id text UNIQUE,
    conversation_id text UNIQUE,
    answered_at timestamptz,
    result_code text,
    utility_cents bigint,
    answer_event_id uuid
);
CREATE INDEX balance_queries_by_partner ON balance_queries (partner_id, asked_at);

-- Money in the utility account that no payout of ours explains: above zero, float that was bought; below, a gap.
CREATE TABLE float_movements (
    id uuid PRIMARY KEY,
    partner_id uuid NOT NULL REFERENCES partners,
    short_code text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL CHECK (to_at > from_at),
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),
    drawn_cents bigint NOT NULL,              -- what we paid between the two, as far as it was known
    settled boolean NOT NULL,                 -- false: at least so much, payouts were under way between the two reports
    found_at timestamptz NOT NULL,
    explained_at timestamptz,                 -- later evidence left nothing of it
    UNIQUE (partner_id, short_code, from_at, to_at)
);
CREATE INDEX float_movements_open ON float_movements (partner_id) WHERE amount_cents < 0 AND explained_at IS NULL;

ALTER TABLE disbursements
    DROP CONSTRAINT disbursements_held_for_check,
    ADD CONSTRAINT disbursements_held_for_check CHECK (held_for IN (
        'wallet_short', 'float_short', 'product_limit', 'product_disabled', 'bad_phone', 'cents', 'mpesa_limit', 'currency',
        'unresolved_payout', 'partner_halted', 'group_loan', 'tranche_loan', 'tranche_not_due', 'not_approved', 'sending_halted',
        'by_person', 'cancelled'));

CREATE INDEX disbursements_float_short ON disbursements (partner_id) WHERE state = 'held' AND held_for = 'float_short';

-- Instructions that may draw on the float.
CREATE INDEX disbursement_attempts_drawing ON disbursement_attempts (partner_id) INCLUDE (amount_cents)
    WHERE state IN ('written', 'accepted', 'unknown') OR (state = 'refused' AND maybe_seen);
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
