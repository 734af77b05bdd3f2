"""The application logs in as itself, not as the owner."""

from alembic import op

from vault_core.database import run_sql

revision = "0016"
down_revision = "0015"

SQL = """
-- A login has no password until the operator gives it one; the embedded server asks for none. It is a member of nothing.
-- Roles belong to the whole server: where it is so already, its administrator may have kept the right to alter it for himself, and
-- another database's migration may be altering it at this moment.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vault_app' AND (NOT rolcanlogin OR rolinherit OR rolcreaterole OR rolcreatedb)) THEN
        ALTER ROLE vault_app LOGIN NOINHERIT NOCREATEROLE NOCREATEDB;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        IF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = 'vault_app') THEN
            RAISE EXCEPTION 'this login may not alter the role vault_app: have an administrator run ALTER ROLE vault_app LOGIN';
        END IF;
    WHEN internal_error THEN
        IF SQLERRM <> 'tuple concurrently updated' THEN RAISE; END IF;
END $$;
-- It makes nothing of its own that could stand before the product's tables and functions.
REVOKE CREATE ON SCHEMA public FROM PUBLIC, vault_app;
DO $$ BEGIN
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC, vault_app', current_database());
END $$;
"""


def upgrade() -> None:
    run_sql(op.get_bind(), SQL)
