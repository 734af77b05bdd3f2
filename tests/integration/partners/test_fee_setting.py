"""Setting system fees and who pays M-Pesa's: from a day on, audited, never against what was charged; and by raw SQL. An upgrade."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from vault_core.clock import business_day
from vault_core.database import open_owner_engine
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.partners.fee_setting import FeeBearers, end_fee, set_fee, set_fee_bearers
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import FeeTerms, SystemFee, load_system_fees, system_fee
from vault_core.runtime import Runtime
from vault_core.schema import migrate

REVISIONS = Path(__file__).parents[3] / "vault_core" / "migrations"


def flat(shillings: int, product_id: int | None = None) -> FeeTerms:
    return FeeTerms("disbursement", product_id, Money.shillings(shillings))


def today(runtime: Runtime) -> date:
    return business_day(runtime.clock.now())


async def fees(runtime: Runtime, partner: Partner) -> tuple[SystemFee, ...]:
    async with runtime.engine.connect() as connection:
        kept = (await load_system_fees(connection, [partner.id]))[partner.id]
    return tuple(fee for fee in kept if fee.terms.service != "sms")


async def use(runtime: Runtime, partner: Partner, fee: SystemFee) -> None:
    """A charge is quoted now by that fee."""
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, system_fee_id)"
                " VALUES (:id, :partner, 'disbursement', :id, 'system_fee', 100, :fee)"
            ),
            {"id": runtime.new_id(), "partner": partner.id, "fee": fee.id},
        )


async def audited(runtime: Runtime) -> list[str]:
    async with runtime.engine.connect() as connection:
        return list(
            (await connection.execute(text("SELECT act FROM audit_log WHERE act LIKE 'charges.%' ORDER BY act"))).scalars()
        )


async def test_a_new_fee_ends_the_one_in_force_on_its_first_day_and_both_are_kept(runtime: Runtime, lender: Partner) -> None:
    first, tomorrow = today(runtime), today(runtime) + timedelta(days=1)
    await set_fee(runtime, lender, flat(30), first, actor="ops:a")
    await use(runtime, lender, (await fees(runtime, lender))[0])
    done = await set_fee(runtime, lender, flat(40), tomorrow, actor="ops:a")
    assert done.former is not None
    kept = await fees(runtime, lender)
    assert [(fee.terms, fee.valid_from, fee.valid_to) for fee in kept] == [
        (flat(30), first, tomorrow),
        (flat(40), tomorrow, None),
    ]
    assert system_fee(kept, Money(1), first, "disbursement")[0] == Money(30_00)
    assert system_fee(kept, Money(1), tomorrow, "disbursement")[0] == Money(40_00)
    assert await audited(runtime) == ["charges.fee_set", "charges.fee_set"]


async def test_the_same_fee_again_changes_nothing(runtime: Runtime, lender: Partner) -> None:
    await set_fee(runtime, lender, flat(30), today(runtime), actor="ops:a")
    assert (await set_fee(runtime, lender, flat(30), today(runtime) + timedelta(days=3), actor="ops:a")).repeated
    assert len(await fees(runtime, lender)) == 1
    assert len(await audited(runtime)) == 1


async def test_a_fee_that_charged_today_cannot_end_today(runtime: Runtime, lender: Partner) -> None:
    await set_fee(runtime, lender, flat(30), today(runtime), actor="ops:a")
    await use(runtime, lender, (await fees(runtime, lender))[0])
    with pytest.raises(Conflict, match=r"charges of .* used it.*tomorrow is the first day"):
        await set_fee(runtime, lender, flat(40), today(runtime), actor="ops:a")
    assert [fee.terms for fee in await fees(runtime, lender)] == [flat(30)]


async def test_a_slip_that_has_charged_nothing_is_taken_back_on_its_own_day(runtime: Runtime, lender: Partner) -> None:
    tomorrow = today(runtime) + timedelta(days=1)
    await set_fee(runtime, lender, flat(3000), tomorrow, actor="ops:a")
    await set_fee(runtime, lender, flat(30), tomorrow, actor="ops:a")
    assert [(fee.terms, fee.valid_to) for fee in await fees(runtime, lender)] == [(flat(30), None)]


async def test_yesterday_an_unknown_product_and_a_fee_behind_a_later_one_are_refused(runtime: Runtime, lender: Partner) -> None:
    with pytest.raises(InvalidInput, match="is over"):
        await set_fee(runtime, lender, flat(30), today(runtime) - timedelta(days=1), actor="ops:a")
    with pytest.raises(NotFound, match="no loan product 9"):
        await set_fee(runtime, lender, flat(30, 9), today(runtime), actor="ops:a")
    with pytest.raises(NotFound, match="no such fee"):
        await end_fee(runtime, lender, "disbursement", None, today(runtime), actor="ops:a")
    await set_fee(runtime, lender, flat(30), today(runtime) + timedelta(days=2), actor="ops:a")
    with pytest.raises(Conflict, match="is set already"):
        await set_fee(runtime, lender, flat(40), today(runtime), actor="ops:a")


async def test_an_ended_fee_leaves_nothing_due(runtime: Runtime, lender: Partner) -> None:
    await set_fee(runtime, lender, flat(30), today(runtime), actor="ops:a")
    later = today(runtime) + timedelta(days=2)
    await end_fee(runtime, lender, "disbursement", None, later, actor="ops:a")
    assert system_fee(await fees(runtime, lender), Money(1), later, "disbursement") == (Money(0), None)
    assert await audited(runtime) == ["charges.fee_ended", "charges.fee_set"]


async def test_who_pays_mpesa_is_changed_once_and_a_word_that_is_none_is_refused(runtime: Runtime, lender: Partner) -> None:
    assert (lender.c2b_bouquet, lender.c2b_fee_paid_by, lender.b2c_tariff) == ("business", "short_code", "b2c")
    wanted = FeeBearers(c2b_bouquet="mgao", c2b_fee_paid_by="wallet", b2c_tariff="b2c_withdrawal_paid")
    changed = await set_fee_bearers(runtime, lender, wanted, actor="ops:a")
    assert (changed.c2b_bouquet, changed.c2b_fee_paid_by, changed.b2c_tariff) == ("mgao", "wallet", "b2c_withdrawal_paid")
    assert changed.mpesa_fee_paid_by == "wallet"
    await set_fee_bearers(runtime, lender, wanted, actor="ops:a")
    assert await audited(runtime) == ["charges.bearers_set"]
    with pytest.raises(InvalidInput, match="c2b_bouquet 'gold' is none of the choices"):
        await set_fee_bearers(runtime, lender, FeeBearers(c2b_bouquet="gold"), actor="ops:a")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE system_fees SET flat_cents = 1", "permission denied"),
        ("DELETE FROM system_fees", "permission denied"),
        ("TRUNCATE system_fees", "permission denied"),
        ("UPDATE system_fees SET valid_to = valid_from", "used it"),
        (
            (
                "INSERT INTO system_fees (id, partner_id, service, valid_from, set_by, set_at)"
                " SELECT gen_random_uuid(), partner_id, service, valid_from + 5, 'x', now() FROM system_fees"
            ),
            "overlaps",
        ),
        (
            (
                "INSERT INTO system_fees (id, partner_id, service, product_id, valid_from, set_by, set_at)"
                " SELECT gen_random_uuid(), partner_id, 'collection', 3, valid_from, 'x', now() FROM system_fees"
            ),
            "check constraint",
        ),
    ],
)
async def test_the_database_keeps_a_used_fee_against_raw_sql(
    runtime: Runtime, lender: Partner, statement: str, said: str
) -> None:
    await set_fee(runtime, lender, flat(30), today(runtime), actor="ops:a")
    await use(runtime, lender, (await fees(runtime, lender))[0])
    async with runtime.engine.connect() as connection:
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        with pytest.raises(DBAPIError, match=said):
            await connection.execute(text(statement))


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(REVISIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()


@pytest.fixture
def at_0013(postgres_url: str) -> Iterator[Engine]:
    """A database in the state of revision 0013 with two partners, one that pays a fee and has charges."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE before_fees"))
    engine = open_owner_engine(postgres_url.replace("/postgres?", "/before_fees?"))
    with engine.connect() as connection:
        upgrade_to(connection, "0013")
        for name, cents in (("alpha", 5000), ("beta", 0)):
            connection.execute(
                text(
                    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,"
                    " b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, sms_price_cents, system_fee_cents,"
                    " mpesa_fee_paid_by, next_poll_at, created_at) VALUES (gen_random_uuid(), :name, :name, '', 'default', 'm', '',"
                    " 'api', :name, :name || '2', '', 's', 'L', 80, :cents, 'short_code', now(), '2026-11-19 22:30+00')"
                ),
                {"name": name, "cents": cents},
            )
        connection.execute(
            text(
                "INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, charged_at)"
                " SELECT gen_random_uuid(), id, 'disbursement', gen_random_uuid(), 'system_fee', 5000, '2026-11-20 10:00+03'"
                " FROM partners WHERE name = 'alpha'"
            )
        )
        connection.commit()
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE before_fees WITH (FORCE)"))
    admin.dispose()


def test_the_one_fee_and_the_price_of_texts_that_a_partner_had_become_its_first_and_its_charges_name_it(at_0013: Engine) -> None:
    migrate(at_0013, now=datetime.now(UTC))
    with at_0013.connect() as connection:
        rows = connection.execute(
            text("SELECT p.name, f.service, f.product_id, f.flat_cents, f.valid_from, f.valid_to FROM system_fees f"
                 " JOIN partners p ON p.id = f.partner_id ORDER BY p.name, f.service")
        ).all()  # fmt: skip
        assert [tuple(row) for row in rows] == [
            ("alpha", "disbursement", None, 5000, date(2026, 11, 20), None),
            ("alpha", "sms", None, 80, date(2026, 11, 20), None),
            ("beta", "sms", None, 80, date(2026, 11, 20), None),
        ]
        unnamed = connection.execute(text("SELECT count(*) FROM charge_lines WHERE system_fee_id IS NULL")).scalar_one()
        assert unnamed == 0
        terms = connection.execute(
            text("SELECT DISTINCT mpesa_fee_paid_by, b2c_tariff, c2b_bouquet, c2b_fee_paid_by FROM partners")
        ).one()
        assert tuple(terms) == ("short_code", "b2c", "business", "short_code")
