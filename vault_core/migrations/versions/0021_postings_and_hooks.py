"""Postings that a tenant's calendar or an undone disbursal put off, those that a person was handed, and signed web hooks."""

from alembic import op

from vault_core.database import run_sql

revision = "0021"
down_revision = "0020"

SQL = """
ALTER TABLE core_postings
    ADD COLUMN not_before date,               -- the tenant's calendar refused every day before it
    ADD COLUMN undone bigint[] NOT NULL DEFAULT '{}';  -- transactions of it that were undone there, after which a person had it
                                                       -- posted again under a new external id
-- Read now and then, because people post them by hand (due_at: the next look).
CREATE INDEX disbursements_with_a_person ON disbursements (due_at) WHERE state = 'needs_review';

ALTER TABLE partner_credentials
    DROP CONSTRAINT partner_credentials_purpose_check,
    ADD CONSTRAINT partner_credentials_purpose_check CHECK (purpose IN (
        'mifos_password', 'mpesa_consumer_key', 'mpesa_consumer_secret', 'mpesa_security_credential', 'mpesa_passkey', 'sms_api_key',
        'hook_secret'));
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
