"""One person's limit stands where the application cannot move it; what one person said of a reference routes no more than that.

Answers of pulls and validations are kept for a time, and for good where they are the evidence of money.
"""

from alembic import op

from vault_core.database import run_sql

revision = "0032"
down_revision = "0031"

SQL = """
-- What one person may decide alone, in KES cents. Written by the owner of the tables at `vault up`, from the settings.
CREATE TABLE person_limits (
    what text PRIMARY KEY CHECK (what IN ('assign')),
    alone_up_to_cents bigint NOT NULL CHECK (alone_up_to_cents >= 0)
);
INSERT INTO person_limits VALUES ('assign', 5000000);
REVOKE ALL ON person_limits FROM vault_app;
GRANT SELECT ON person_limits TO vault_app;

-- Another person who said the same of the reference: from then on it names the account whatever the amount.
ALTER TABLE account_aliases
    ADD COLUMN agreed_by text,
    ADD COLUMN agreed_at timestamptz,
    ADD CONSTRAINT account_aliases_agreed CHECK ((agreed_by IS NULL) = (agreed_at IS NULL) AND agreed_by <> added_by);
GRANT UPDATE (agreed_by, agreed_at) ON account_aliases TO vault_app;

-- Purged by age, unless a payment rests on them (functions/20_purging.sql).
CREATE INDEX pull_answers_by_age ON pull_answers (answered_at);
CREATE INDEX payment_validations_by_age ON payment_validations (at);
CREATE INDEX collections_from_pulls ON collections (event_id) WHERE source = 'pull';
CREATE INDEX collection_tellings_from_pulls ON collection_tellings (event_id) WHERE source = 'pull';
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
