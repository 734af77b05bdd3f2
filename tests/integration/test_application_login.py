"""The processes' login can become nothing more than it is, whatever SQL it is brought to run."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from vault_core.database import open_async_engine, open_owner_engine, open_sync_engine
from vault_core.errors import ConfigurationError
from vault_core.runtime import Runtime


@pytest.fixture
def owner(owner_url: str) -> Iterator[Engine]:
    engine = open_owner_engine(owner_url)
    yield engine
    engine.dispose()


async def test_processes_log_in_as_the_application(runtime: Runtime) -> None:
    async with runtime.engine.connect() as connection:
        login = await connection.execute(text("SELECT session_user, current_user, current_setting('TimeZone')"))
        assert tuple(login.one()) == ("vault_app", "vault_app", "UTC")


def test_the_login_is_a_member_of_nothing_and_owns_nothing(owner: Engine) -> None:
    with owner.connect() as connection:
        role = connection.execute(
            text(
                "SELECT rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
                " (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid),"
                " (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid), (SELECT count(*) FROM pg_proc p WHERE p.proowner = r.oid)"
                " FROM pg_roles r WHERE rolname = 'vault_app'"
            )
        ).one()
    assert tuple(role) == (True, False, False, False, False, False, False, 0, 0, 0)


CLIMBS = {
    "the role is not reset to the owner's": ("RESET ROLE", None),
    "the role is not set to none": ("SET ROLE NONE", None),
    "all settings are not reset to the owner's": ("DISCARD ALL", None),
    "the owner's role is not taken": ("SET ROLE postgres", "permission denied"),
    "the owner's role is not taken for a transaction": ("SET LOCAL ROLE postgres", "permission denied"),
    "the owner's role is not taken by set_config": ("SELECT set_config('role', 'postgres', false)", "permission denied"),
    "the session is not the owner's": ("SET SESSION AUTHORIZATION postgres", "permission denied"),
    "the session is not reset to the owner's": ("RESET SESSION AUTHORIZATION", None),
    "the login does not give itself roles": ("GRANT postgres TO vault_app", "permission denied"),
    "the login does not give itself rights": ("GRANT UPDATE ON ledger_accounts TO vault_app", None),
    "the login does not make itself a superuser": ("ALTER ROLE vault_app SUPERUSER", "permission denied"),
    "the login does not let itself make roles": ("ALTER ROLE vault_app CREATEROLE", "permission denied"),
    "roles are not made": ("CREATE ROLE helper", "permission denied"),
    "the owner's password is not set": ("ALTER ROLE postgres PASSWORD 'x'", "permission denied"),
    "predefined roles are not taken": ("SET ROLE pg_write_all_data", "permission denied"),
    "programs are not run": ("COPY (SELECT 1) TO PROGRAM 'cat'", "permission denied"),
    "files are not read": ("SELECT pg_read_file('pg_hba.conf')", "permission denied"),
    "files are not written": ("COPY (SELECT 1) TO '/tmp/x'", "permission denied"),
    "the server's settings are not changed": ("ALTER SYSTEM SET fsync = off", "permission denied"),
    "the database's settings are not changed": ("ALTER DATABASE {database} SET search_path = pg_temp", "must be owner"),
    "tables are not made": ("CREATE TABLE public.t (n int)", "permission denied"),
    "temporary tables are not made": ("CREATE TEMP TABLE t (n int)", "permission denied"),
    "schemas are not made": ("CREATE SCHEMA mine", "permission denied"),
    "functions are not made": ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1", "permission denied"),
    "temporary functions are not made": ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql RETURN 1", "permission denied"),
    "ways to other servers are not made": ("CREATE FOREIGN DATA WRAPPER w", "permission denied"),
    "languages are not added": ("CREATE LANGUAGE plperlu", "permission denied|not available"),
    "large objects are not taken from files": ("SELECT lo_import('/etc/passwd')", "permission denied"),
    "another's objects are not reassigned": ("REASSIGN OWNED BY postgres TO vault_app", "permission denied"),
    "a DO block has no more rights": ("DO $$ BEGIN SET ROLE postgres; END $$", "permission denied"),
}


@pytest.mark.parametrize(("climb", "answer"), CLIMBS.values(), ids=CLIMBS.keys())
def test_no_statement_makes_the_login_more_than_it_is(database_url: str, climb: str, answer: str | None) -> None:
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        database = connection.execute(text("SELECT current_database()")).scalar_one()
        if answer is None:
            connection.execute(text(climb))
        else:
            with pytest.raises(DBAPIError, match=answer):
                connection.execute(text(climb.format(database=database)))
        assert tuple(connection.execute(text("SELECT session_user, current_user")).one()) == ("vault_app", "vault_app")
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text("UPDATE ledger_accounts SET balance_cents = 0"))
    engine.dispose()


async def test_services_refuse_to_work_as_a_superuser(owner_url: str) -> None:
    engine = open_async_engine(owner_url)
    with pytest.raises(ConfigurationError, match="logs in as postgres, who has the rights of the tables' owner"):
        async with engine.connect():
            pass
    await engine.dispose()


def test_reports_refuse_to_work_as_a_superuser(owner_url: str) -> None:
    engine = open_sync_engine(owner_url)
    with pytest.raises(ConfigurationError, match="VAULT_OWNER_DATABASE_URL"), engine.connect():
        pass
    engine.dispose()


def test_a_superuser_is_refused_before_there_are_tables(postgres_url: str) -> None:
    engine = open_sync_engine(postgres_url)
    with pytest.raises(ConfigurationError, match="logs in as postgres"), engine.connect():
        pass
    engine.dispose()


@pytest.fixture
def member(owner: Engine) -> Iterator[str]:
    """A login of the server that the test gives rights to."""
    with owner.begin() as connection:
        connection.execute(text("CREATE ROLE a_member LOGIN"))
    yield "a_member"
    with owner.begin() as connection:
        connection.execute(text("REASSIGN OWNED BY a_member TO postgres"))
        connection.execute(text("DROP OWNED BY a_member"))
        connection.execute(text("DROP ROLE a_member"))


def test_the_owner_of_the_tables_is_refused_though_no_superuser(owner: Engine, owner_url: str, member: str) -> None:
    with owner.begin() as connection:
        connection.execute(text(f"ALTER TABLE ledger_entries OWNER TO {member}"))
    engine = open_sync_engine(owner_url.replace("//postgres@", f"//{member}@"))
    with pytest.raises(ConfigurationError, match=f"logs in as {member}"), engine.connect():
        pass
    engine.dispose()


def test_who_may_become_the_owner_is_refused_though_he_has_not_yet(owner: Engine, owner_url: str, member: str) -> None:
    with owner.begin() as connection:
        connection.execute(text("CREATE ROLE a_landlord"))
        connection.execute(text("ALTER TABLE ledger_entries OWNER TO a_landlord"))
        connection.execute(text(f"GRANT a_landlord TO {member} WITH INHERIT FALSE"))
    engine = open_sync_engine(owner_url.replace("//postgres@", f"//{member}@"))
    with pytest.raises(ConfigurationError, match=f"logs in as {member}"), engine.connect():
        pass
    engine.dispose()
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE ledger_entries OWNER TO postgres"))
        connection.execute(text("DROP ROLE a_landlord"))


def test_another_login_may_work_with_the_applications_rights(owner: Engine, owner_url: str, member: str) -> None:
    with owner.begin() as connection:
        connection.execute(text(f"GRANT vault_app TO {member}"))
    engine = open_sync_engine(owner_url.replace("//postgres@", f"//{member}@"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM partners")).scalar_one() == 0
    engine.dispose()
