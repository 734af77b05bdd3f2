"""Price lists against raw SQL: as the application's role, as the owner, and over an upgrade with charges in place."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from vault_core.database import open_owner_engine
from vault_core.runtime import Runtime
from vault_core.schema import migrate

ONE_BAND_MORE = (
    "INSERT INTO tariff_bands (tariff_id, from_cents, to_cents) SELECT id, 25000100, 30000000 FROM tariffs WHERE product = 'b2c'"
)

APPLICATION = {
    "a list is not inserted": "INSERT INTO tariffs (provider, product, valid_from, source) VALUES ('a', 'b', '2031-01-01', 's')",
    "a band is not inserted": ONE_BAND_MORE,
    "an end is not moved": "UPDATE tariffs SET valid_to = '2031-01-01'",
    "a fee is not changed": "UPDATE tariff_bands SET fee_cents = 0",
    "a mark is not taken away": "UPDATE tariff_bands SET confirmed = true",
    "a list is not deleted": "DELETE FROM tariffs",
    "a band is not deleted": "DELETE FROM tariff_bands",
    "lists are not truncated": "TRUNCATE tariffs CASCADE",
    "the inner check is not called": "SELECT tariff_check(1)",
    "the guard is not disabled": "ALTER TABLE tariff_bands DISABLE TRIGGER ALL",
    "the function is not replaced": "CREATE OR REPLACE FUNCTION tariff_check(bigint) RETURNS void LANGUAGE sql AS ''",
}


@pytest.mark.parametrize("statement", APPLICATION.values(), ids=APPLICATION.keys())
async def test_the_application_role_is_refused(runtime: Runtime, statement: str) -> None:
    async with runtime.engine.connect() as connection:
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            await connection.execute(text(statement))


CALL = """
SELECT tariff_import(now(), 'app', 'safaricom', {product}, {valid_from}, NULL, {source}, '', {step}, 0, false, {rounding},
    {lows}, {highs}, {fees}, {zeros}, {zeros}, {confirmed}, {notes})
"""
WHOLE = {
    "product": "'x'",
    "valid_from": "DATE '2031-01-01'",
    "source": "'s'",
    "step": "100",
    "rounding": "'half_up_cent'",
    "lows": "'{100,10100}'::bigint[]",
    "highs": "'{10000,20000}'::bigint[]",
    "fees": "'{100,150}'::bigint[]",
    "zeros": "'{0,0}'",
    "confirmed": "'{t,t}'::boolean[]",
    "notes": "ARRAY['','']",
}
MALFORMED = {
    "a gap": ({"lows": "'{100,10200}'::bigint[]"}, "band 2 begins at 10200 cents, not at 10100"),
    "an overlap": ({"lows": "'{100,9900}'::bigint[]"}, "band 2 begins at 9900 cents, not at 10100"),
    "a band within another": ({"lows": "'{100,200}'::bigint[]", "highs": "'{10000,300}'::bigint[]"}, "band 2 begins at 200"),
    "a band twice": ({"lows": "'{100,100}'::bigint[]"}, "tariff_bands_tariff_id_from_cents_key"),
    "a band that ends before it begins": ({"highs": "'{10000,10000}'::bigint[]"}, "tariff_bands_check"),
    "cents among whole shillings": ({"highs": "'{10000,20050}'::bigint[]"}, "band 2 has cents"),
    "a fee in cents, rounded to shillings": ({"rounding": "'up_shilling'"}, "a fee of band 2 has cents"),
    "a rounding that is none": ({"rounding": "'bankers'"}, "tariffs_rounding_check"),
    "a step that is none": ({"step": "50"}, "tariffs_step_cents_check"),
    "a negative fee": ({"fees": "'{100,-1}'::bigint[]"}, "tariff_bands_fee_cents_check"),
    "no source": ({"source": "''"}, "tariffs_source_check"),
    "no bands": ({"lows": "'{}'::bigint[]"}, "tariffs_band_count_check"),
    "unconfirmed without a reason": ({"confirmed": "'{t,f}'::boolean[]"}, "tariff_bands_unconfirmed_says_why"),
    "lists of other lengths": ({"lows": "'{100}'::bigint[]"}, "violates not-null constraint"),
    "a day that is taken": ({"product": "'b2c'", "valid_from": "DATE '2023-08-01'"}, "tariffs_one_beginning"),
    "a day before a list without end": (
        {"product": "'b2c'", "valid_from": "DATE '2023-01-01'"},
        "overlaps the list from 2023-08-01",
    ),
}


@pytest.mark.parametrize(("change", "told"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_list_that_is_not_whole_is_refused_by_the_database(runtime: Runtime, change: dict[str, str], told: str) -> None:
    async with runtime.engine.connect() as connection:
        with pytest.raises(DBAPIError, match=told):
            await connection.execute(text(CALL.format_map(WHOLE | change)))


async def test_a_whole_list_is_taken(runtime: Runtime) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text(CALL.format_map(WHOLE)))


@pytest.fixture
def owner(owner_url: str) -> Iterator[Engine]:
    engine = create_engine(owner_url)
    yield engine
    engine.dispose()


OWNER = {
    "a fee is not changed": "UPDATE tariff_bands SET fee_cents = 0",
    "a band is not deleted": "DELETE FROM tariff_bands WHERE to_cents = 25000000",
    "bands are not truncated": "TRUNCATE tariff_bands CASCADE",
    "lists are not truncated": "TRUNCATE tariffs CASCADE",
    "a list is not deleted": "DELETE FROM tariffs",
    "a beginning is not moved": "UPDATE tariffs SET valid_from = valid_from - 1",
    "a source is not changed": "UPDATE tariffs SET source = 'another'",
    "a rate is not changed": "UPDATE tariffs SET excise_rate_basis_points = 0",
    "a band is not added on top": ONE_BAND_MORE,
    "an overlapping list is not inserted": """
        WITH t AS (INSERT INTO tariffs (provider, product, valid_from, source) VALUES ('safaricom', 'b2c', '2031-01-01', 's') RETURNING id)
        INSERT INTO tariff_bands (tariff_id, from_cents, to_cents) SELECT id, 0, 100 FROM t""",
    "a list without bands is not inserted": """
        INSERT INTO tariffs (provider, product, valid_from, source) VALUES ('safaricom', 'x', '2031-01-01', 's')""",
    "an end is not moved into the next list": "UPDATE tariffs SET valid_to = NULL WHERE valid_to = '2025-07-01'",
}


@pytest.mark.parametrize("statement", OWNER.values(), ids=OWNER.keys())
def test_the_owner_is_refused_too(owner: Engine, statement: str) -> None:
    def act() -> None:
        with owner.begin() as connection:
            connection.execute(text(statement))

    with pytest.raises(DBAPIError, match=r"never changed|never gains or loses|overlaps the list|has 0 bands"):
        act()


def test_a_withdrawn_list_is_not_brought_back(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE tariffs SET withdrawn_at = now() WHERE product = 'c2b_mgao'"))
    with pytest.raises(DBAPIError, match="never changed"), owner.begin() as connection:
        connection.execute(text("UPDATE tariffs SET withdrawn_at = NULL WHERE product = 'c2b_mgao'"))


REVISIONS = Path(__file__).parents[3] / "vault_core" / "migrations"


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(REVISIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


@pytest.fixture
def at_0012(postgres_url: str) -> Iterator[Engine]:
    """A database in the state of revision 0012, with charges of 2026 and a list of B2B that somebody added by hand."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE upgraded"))
    engine = open_owner_engine(postgres_url.replace("/postgres?", "/upgraded?"))
    with engine.connect() as connection:
        upgrade_to(connection, "0012")
        connection.execute(
            text("SET LOCAL session_replication_role = replica")
        )  # the partner of the charges is not the point here
        connection.execute(
            text(
                """
                INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, tariff_band_id, charged_at)
                SELECT uuidv7(TIMESTAMPTZ '2026-11-20 10:00+03' - now()), gen_random_uuid(), 'disbursement', gen_random_uuid(), l.line, 500, b.id, '2026-11-20 10:00+03'
                FROM (VALUES ('mpesa_fee', 'b2c', 100000), ('excise', 'excise_fees', 3000)) AS l(line, product, cents)
                JOIN tariffs t ON t.product = l.product
                JOIN tariff_bands b ON b.tariff_id = t.id AND l.cents BETWEEN b.from_cents AND b.to_cents
                """
            )
        )
        connection.execute(
            text(
                "INSERT INTO tariffs (provider, product, valid_from, source) VALUES ('x', 'b2b', '2025-01-01', 'old'), ('x', 'b2b', '2026-01-01', '')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO tariff_bands (tariff_id, from_cents, to_cents, fee_cents) SELECT id, 50, 100, 7 FROM tariffs WHERE provider = 'x'"
            )
        )
        connection.commit()
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE upgraded WITH (FORCE)"))
    admin.dispose()


_PRICES = text(
    """
    SELECT t.id, t.product, b.id, b.from_cents, b.to_cents, b.fee_cents, b.rate_basis_points FROM tariff_bands b
    JOIN tariffs t ON t.id = b.tariff_id WHERE t.id = ANY(:ids) ORDER BY b.id
    """
)


def test_lists_that_stand_are_upgraded_in_place_and_their_charges_stay_within_them(at_0012: Engine) -> None:
    with at_0012.connect() as connection:
        ids = list(connection.execute(text("SELECT id FROM tariffs")).scalars())
        before = connection.execute(_PRICES, {"ids": ids}).all()
    migrate(at_0012, now=datetime.now(UTC))
    with at_0012.connect() as connection:
        assert connection.execute(_PRICES, {"ids": ids}).all() == before
        outside = connection.execute(
            text(
                """
                SELECT count(*) FROM charge_lines l JOIN tariff_bands b ON b.id = l.tariff_band_id JOIN tariffs t ON t.id = b.tariff_id
                WHERE NOT daterange(t.valid_from, t.valid_to) @> (l.charged_at AT TIME ZONE 'Africa/Nairobi')::date
                """
            )
        ).scalar_one()
        assert outside == 0
        connection.execute(text("SELECT tariff_check(id) FROM tariffs"))  # every list is whole
        ends = connection.execute(
            text("SELECT valid_to::text, step_cents FROM tariffs WHERE provider = 'x' ORDER BY valid_from")
        ).all()
        assert [tuple(row) for row in ends] == [("2026-01-01", 1), (None, 1)]  # the later one held already


def test_a_list_used_before_the_upgrade_is_guarded_after_it(at_0012: Engine) -> None:
    migrate(at_0012, now=datetime.now(UTC))
    for day, refused in (("2026-11-20", True), ("2026-11-21", False)):
        with at_0012.connect() as connection:
            statement = text("SELECT tariff_end('kra', 'excise_fees', DATE '2025-07-01', CAST(:day AS date))")
            if refused:
                with pytest.raises(DBAPIError, match="charges of 2026-11-20 used it"):
                    connection.execute(statement, {"day": day})
            else:
                connection.execute(statement, {"day": day})
