"""Price lists brought in, ended and taken back, and what stands in the way."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from vault_core.clock import business_day
from vault_core.errors import ConfigurationError, Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime
from vault_core.wallets.new_tariff import NewBand, NewTariff, content_of
from vault_core.wallets.tariff_import import end_tariff, import_tariff, withdraw_tariff
from vault_core.wallets.tariffs import Tariff, TariffBook, load_tariffs

NEXT = NewTariff(
    provider="safaricom",
    product="b2c",
    valid_from=date(2031, 1, 1),
    valid_to=None,
    source="form of 2030",
    note="",
    step=Money(100),
    excise_rate_basis_points=1_500,
    excise_included=True,
    rounding="half_up_cent",
    bands=(NewBand(Money(1_00), Money(1_500_00), fee=Money(6_00)), NewBand(Money(1_501_00), Money(250_000_00), fee=Money(14_00))),
)
FIRST = date(2023, 8, 1)


async def book_of(runtime: Runtime) -> TariffBook:
    async with runtime.engine.connect() as connection:
        return await load_tariffs(connection)


async def lists(runtime: Runtime, product: str = "b2c") -> list[tuple[date, date | None]]:
    return sorted((t.valid_from, t.valid_to) for t in (await book_of(runtime)).tariffs if t.product == product)


async def charge(runtime: Runtime, partner: Partner, day: date, *, charged: bool = True) -> None:
    """A charge of a payout of 1,000 on noon of `day`, charged then or only held."""
    noon = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    band = (await book_of(runtime)).band("safaricom", "b2c", day, Money(1_000_00))
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                """
                INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, tariff_band_id, charged_at)
                VALUES (uuidv7(CAST(:noon AS timestamptz) - now()), :partner, 'disbursement', gen_random_uuid(), 'mpesa_fee', 500, :band,
                        CASE WHEN :charged THEN CAST(:noon AS timestamptz) END)
                """
            ),
            {"noon": noon, "partner": partner.id, "band": band.id, "charged": charged},
        )


async def acts(runtime: Runtime) -> list[tuple[str, str, str]]:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(text("SELECT act, subject, actor FROM audit_log ORDER BY id"))
        return [(row.act, row.subject, row.actor) for row in rows]


async def test_the_next_list_ends_the_one_before_and_both_price_their_own_days(runtime: Runtime) -> None:
    done = await import_tariff(runtime, NEXT, "ops:finance")
    assert done.ended is not None
    assert done.ended.valid_from == FIRST
    assert await lists(runtime) == [(FIRST, date(2031, 1, 1)), (date(2031, 1, 1), None)]
    book = await book_of(runtime)
    fees = {day: book.band("safaricom", "b2c", day, Money(1_000_00)).fee for day in (date(2030, 12, 31), date(2031, 1, 1))}
    assert fees == {date(2030, 12, 31): Money(5_00), date(2031, 1, 1): Money(6_00)}
    assert await acts(runtime) == [("tariff.imported", "tariff safaricom b2c of 2031-01-01", "ops:finance")]


async def test_what_is_imported_is_read_back_as_it_was_written(runtime: Runtime) -> None:
    new = replace(
        NEXT,
        product="c2b_mgao",
        step=Money(1),
        note="about it",
        bands=(
            NewBand(Money(0), Money(100_00), customer_fee=Money(3_00)),
            NewBand(Money(100_01), Money(500_00), rate_basis_points=150, confirmed=False, note="a guess"),
        ),
    )
    await import_tariff(runtime, new, "ops:finance")
    standing = (await book_of(runtime)).tariff("safaricom", "c2b_mgao", date(2031, 1, 1))
    assert (content_of(standing), standing.imported_by) == (new, "ops:finance")


async def test_an_import_tells_what_it_changes(runtime: Runtime) -> None:
    done = await import_tariff(runtime, NEXT, "ops:finance")
    told = [str(one) for one in done.changes]
    assert told[:3] == [
        "source: Safaricom b2c_tariff_form_august_2023.pdf, created 2023-08-01, public; same figures in a 2025 copy -> form of 2030",
        "1 to 100: 0 -> 6",
        "101 to 1500: 5 -> 6",
    ]


async def test_the_same_list_again_changes_nothing(runtime: Runtime) -> None:
    await import_tariff(runtime, NEXT, "ops:finance")
    again = await import_tariff(runtime, NEXT, "ops:another")
    assert (again.repeated, again.ended) == (True, None)
    assert len(await acts(runtime)) == 1


async def test_a_list_that_its_successor_ended_is_still_the_same_list(runtime: Runtime) -> None:
    first = content_of((await book_of(runtime)).tariff("safaricom", "b2c", FIRST))
    await import_tariff(runtime, NEXT, "ops:finance")
    assert (await import_tariff(runtime, first, "ops:finance")).repeated


async def test_the_same_list_twice_at_once_is_one_list(runtime: Runtime) -> None:
    done = await asyncio.gather(*(import_tariff(runtime, NEXT, "ops:finance") for _ in range(4)))
    assert sorted(one.repeated for one in done) == [False, True, True, True]
    assert len(await lists(runtime)) == 2


async def test_the_same_day_with_other_content_is_a_conflict_that_shows_the_difference(runtime: Runtime) -> None:
    await import_tariff(runtime, NEXT, "ops:finance")
    other = replace(NEXT, bands=(replace(NEXT.bands[0], fee=Money(7_00)), NEXT.bands[1]))
    with pytest.raises(Conflict, match=r"(?s)stands already.*1 to 1500: 6 -> 7.*vault tariff withdraw safaricom b2c 2031-01-01"):
        await import_tariff(runtime, other, "ops:finance")
    with pytest.raises(Conflict, match=r"valid_to: none -> 2032-01-01"):
        await import_tariff(runtime, replace(NEXT, valid_to=date(2032, 1, 1)), "ops:finance")


async def test_a_dry_run_says_the_same_and_changes_nothing(runtime: Runtime) -> None:
    tried = await import_tariff(runtime, NEXT, "ops:finance", dry_run=True)
    assert (await lists(runtime), await acts(runtime)) == ([(FIRST, None)], [])
    assert await import_tariff(runtime, NEXT, "ops:finance") == tried


async def test_a_dry_run_is_refused_as_the_import_would_be(runtime: Runtime, lender: Partner) -> None:
    await charge(runtime, lender, date(2026, 11, 20))
    with pytest.raises(Conflict, match="charges of 2026-11-20 used it"):
        await import_tariff(runtime, replace(NEXT, valid_from=date(2026, 11, 20)), "ops:finance", dry_run=True)


@pytest.mark.parametrize("state", ["charged", "held"])
async def test_a_list_does_not_end_on_or_before_a_day_whose_charges_used_it(
    runtime: Runtime, lender: Partner, state: str
) -> None:
    await charge(runtime, lender, date(2026, 11, 20), charged=state == "charged")
    for day in (date(2026, 11, 19), date(2026, 11, 20)):
        with pytest.raises(Conflict, match=rf"cannot end on {day}: charges of 2026-11-20 used it"):
            await import_tariff(runtime, replace(NEXT, valid_from=day), "ops:finance")
    await import_tariff(runtime, replace(NEXT, valid_from=date(2026, 11, 21)), "ops:finance")
    assert (await lists(runtime))[0] == (FIRST, date(2026, 11, 21))


async def test_a_charge_of_late_evening_in_nairobi_belongs_to_its_day_there(runtime: Runtime, lender: Partner) -> None:
    await charge(runtime, lender, date(2026, 11, 20), charged=False)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE charge_lines SET charged_at = '2026-11-20 21:30+00'"))  # 00:30 on the 21st
    with pytest.raises(Conflict, match="charges of 2026-11-21 used it"):
        await end_tariff(runtime, "safaricom", "b2c", date(2026, 11, 21), "ops:finance", "over")
    await end_tariff(runtime, "safaricom", "b2c", date(2026, 11, 22), "ops:finance", "over")


async def test_a_list_that_would_hold_with_another_is_refused(runtime: Runtime) -> None:
    await import_tariff(runtime, replace(NEXT, valid_to=date(2032, 1, 1)), "ops:finance")
    with pytest.raises(Conflict, match=r"overlaps the list from 2031-01-01 to 2032-01-01: the earlier must end"):
        await import_tariff(runtime, replace(NEXT, valid_from=date(2031, 6, 1)), "ops:finance")
    with pytest.raises(Conflict, match="overlaps the list from 2023-08-01 to 2031-01-01"):
        await import_tariff(runtime, replace(NEXT, valid_from=date(2023, 1, 1)), "ops:finance")


async def test_a_list_of_years_gone_by_is_brought_in_before_the_first(runtime: Runtime) -> None:
    done = await import_tariff(runtime, replace(NEXT, valid_from=date(2023, 1, 1), valid_to=FIRST), "ops:finance")
    assert (done.ended, done.against, done.unpriced_from) == (None, None, None)
    assert await lists(runtime) == [(date(2023, 1, 1), FIRST), (FIRST, None)]


async def test_days_that_no_list_prices_are_told(runtime: Runtime) -> None:
    await end_tariff(runtime, "safaricom", "b2c", date(2030, 1, 1), "ops:finance", "product withdrawn")
    done = await import_tariff(runtime, NEXT, "ops:finance")
    assert (done.ended, done.unpriced_from) == (None, date(2030, 1, 1))
    with pytest.raises(ConfigurationError, match="no safaricom b2c tariff holds on 2030-06-01"):
        (await book_of(runtime)).band("safaricom", "b2c", date(2030, 6, 1), Money(1_00))


async def test_a_list_is_ended_once_and_again_changes_nothing(runtime: Runtime) -> None:
    for _ in range(2):
        ended = await end_tariff(runtime, "safaricom", "b2c", date(2030, 1, 1), "ops:finance", "over")
        assert ended.valid_to == date(2030, 1, 1)
    assert await acts(runtime) == [("tariff.ended", "tariff safaricom b2c of 2023-08-01", "ops:finance")]


async def test_an_end_may_come_earlier_but_not_later(runtime: Runtime) -> None:
    await end_tariff(runtime, "safaricom", "b2c", date(2030, 1, 1), "ops:finance", "over")
    await end_tariff(runtime, "safaricom", "b2c", date(2029, 1, 1), "ops:finance", "sooner")
    with pytest.raises(Conflict, match="has ended on 2029-01-01"):
        await end_tariff(runtime, "safaricom", "b2c", date(2030, 1, 1), "ops:finance", "later")
    assert await lists(runtime) == [(FIRST, date(2029, 1, 1))]


async def test_what_is_not_there_cannot_be_ended_or_withdrawn(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="no safaricom b2b list begins before 2030-01-01"):
        await end_tariff(runtime, "safaricom", "b2b", date(2030, 1, 1), "ops:finance", "over")
    with pytest.raises(NotFound, match="no safaricom b2c list begins on 2030-01-01"):
        await withdraw_tariff(runtime, "safaricom", "b2c", date(2030, 1, 1), "ops:finance", "over")


async def test_an_end_and_a_withdrawal_need_a_reason(runtime: Runtime) -> None:
    for act in (end_tariff, withdraw_tariff):
        with pytest.raises(InvalidInput, match="a reason is needed"):
            await act(runtime, "safaricom", "b2c", FIRST, "ops:finance", " ")


async def test_a_list_imported_with_a_mistake_is_withdrawn_and_imported_again(runtime: Runtime, clock) -> None:
    await import_tariff(runtime, NEXT, "ops:finance")
    clock.pass_time(minutes=1)
    resumed = await withdraw_tariff(runtime, "safaricom", "b2c", NEXT.valid_from, "ops:finance", "wrong fee")
    assert isinstance(resumed, Tariff)
    assert (resumed.valid_from, resumed.valid_to) == (FIRST, None)
    assert await lists(runtime) == [(FIRST, None)]
    clock.pass_time(minutes=1)
    right = replace(NEXT, bands=(replace(NEXT.bands[0], fee=Money(7_00)), NEXT.bands[1]))
    await import_tariff(runtime, right, "ops:finance")
    band = (await book_of(runtime)).band("safaricom", "b2c", NEXT.valid_from, Money(1_00))
    assert band.fee == Money(7_00)
    assert [act for act, _, _ in await acts(runtime)] == ["tariff.imported", "tariff.withdrawn", "tariff.imported"]


async def test_a_list_that_a_charge_used_is_not_withdrawn(runtime: Runtime, lender: Partner) -> None:
    await charge(runtime, lender, business_day(runtime.clock.now()))
    with pytest.raises(Conflict, match="cannot be withdrawn: charges used it"):
        await withdraw_tariff(runtime, "safaricom", "b2c", FIRST, "ops:finance", "wrong")


async def test_an_end_waits_for_a_charge_that_is_being_written(runtime: Runtime, lender: Partner) -> None:
    band = (await book_of(runtime)).band("safaricom", "b2c", date(2026, 11, 20), Money(1_000_00))
    async with runtime.engine.connect() as charging, runtime.engine.connect() as ending:
        await charging.execute(
            text(
                """
                INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, tariff_band_id)
                VALUES (uuidv7(), :partner, 'disbursement', gen_random_uuid(), 'mpesa_fee', 500, :band)
                """
            ),
            {"partner": lender.id, "band": band.id},
        )
        await ending.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            await ending.execute(text("SELECT tariff_end('safaricom', 'b2c', DATE '2023-08-01', DATE '2026-11-20')"))
