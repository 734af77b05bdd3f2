"""The tariff audit at work over HTTP: what the sandbox's M-Pesa takes, against the price list."""

from dataclasses import replace
from typing import Any

from sqlalchemy import text

from tests.integration.disbursements.conftest import Day, loan
from vault_core.cases.case_book import close_case
from vault_core.clock import business_day
from vault_core.disbursements.tariff_audit import audit_tariffs
from vault_core.money import Money
from vault_core.wallets.new_tariff import content_of
from vault_core.wallets.tariff_import import import_tariff
from vault_core.wallets.tariffs import load_tariffs

CHANGED = {"units": ["1500"], "per_unit": 1000}  # from now on, in the band up to 1,500 shillings


async def pay(day: Day) -> None:
    await day.poll()
    await day.send()
    await day.hear()


async def audit(day: Day) -> int:
    day.clock.pass_time(minutes=5)
    return await audit_tariffs(day.runtime)


async def differences(day: Day) -> list[dict[str, Any]]:
    return await day.rows("SELECT subject, evidence, amount_cents FROM cases WHERE kind = 'tariff_difference' ORDER BY subject")


async def readings(day: Day) -> list[dict[str, Any]]:
    return await day.rows("SELECT * FROM mpesa_fee_readings ORDER BY charges_balance_cents DESC, receipt")


async def test_fees_by_the_table_open_no_case_whatever_the_order_of_results(open_day) -> None:
    async with open_day([loan(1, 1_000_00), loan(2, 3_000_00), loan(3, 15_000_00), loan(4, 1_200_00)]) as day:
        await day.fund(1000)
        await pay(day)
        assert await audit(day) == 4
        assert await differences(day) == []
        read = {row["receipt"]: row["fee_cents"] for row in await readings(day)}
        truth = {payment["receipt"]: payment["fee_cents"] for payment in await day.payments()}
        known = {receipt: fee for receipt, fee in read.items() if fee is not None}
        assert len(known) == 3, "all but the first, which has no balance before it"
        assert known.items() <= truth.items()
        assert await audit(day) == 0


async def test_a_changed_fee_opens_one_case_that_names_band_fees_and_first_day(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 5)] + [loan(5, 3_000_00)]) as day:
        await day.fund(1000)
        await day.faults(tariff_changed=CHANGED)
        await pay(day)
        await audit(day)
        (case,) = await differences(day)
        said = case["evidence"]
        assert (said["provider"], said["product"], said["band"]) == ("safaricom", "b2c", "KES 101.00 to KES 1,500.00")
        assert (said["table_fee"], said["fee_taken"], case["amount_cents"]) == ("KES 5.00", "KES 7.00", 2_00)
        assert said["payouts_seen"] in (3, 4)
        assert said["price_list_of"] == "2023-08-01"
        assert "vault tariff import" in said["what_to_do"]
        assert said["first_day"] == str(business_day(day.clock.now()))
        assert case["subject"].endswith("more")


async def test_a_difference_that_a_person_has_dealt_with_opens_no_case_again_by_the_old_payouts(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 6)]) as day:
        await day.fund(1000)
        await day.faults(tariff_changed=CHANGED)
        await pay(day)
        await audit(day)
        ((case),) = await differences(day)
        day.clock.pass_time(minutes=1)
        async with day.runtime.engine.begin() as connection:
            await close_case(
                connection, day.clock, kind="tariff_difference", subject=case["subject"], resolution="the new list is imported"
            )
            await connection.execute(text("UPDATE mpesa_fee_readings SET judged_at = NULL"))
        await audit(day)
        assert len(await differences(day)) == 1


async def test_a_fee_whose_excise_comes_on_top_is_what_is_paid_with_it(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 5)]) as day:
        today = business_day(day.clock.now())
        async with day.runtime.engine.connect() as connection:
            standing = content_of((await load_tariffs(connection)).tariff("safaricom", "b2c", today))
        bands = tuple(replace(band, fee=Money(6_09)) if band.high == Money(1_500_00) else band for band in standing.bands)
        await import_tariff(day.runtime, replace(standing, valid_from=today, bands=bands, excise_included=False), "ops:test")
        await day.fund(1000)
        await day.faults(tariff_changed=CHANGED)
        await pay(day)
        await audit(day)
        assert {row["fee_cents"] for row in await readings(day)} == {None, 7_00}
        assert await differences(day) == []
        charged = await day.rows("SELECT DISTINCT amount_cents FROM charge_lines WHERE line = 'mpesa_fee'")
        assert [row["amount_cents"] for row in charged] == [7_00]


async def test_a_fee_that_fell_is_the_other_direction(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 5)]) as day:
        await day.fund(1000)
        await day.control("settings", {"fee_change_cents": -1_00})
        await day.faults(tariff_changed=CHANGED)
        await pay(day)
        await audit(day)
        (case,) = await differences(day)
        assert case["subject"].endswith("less")


async def test_a_status_answer_names_the_fee_itself_and_one_is_enough(open_day) -> None:
    async with open_day([loan(1, 1_000_00)]) as day:
        await day.fund(1000)
        await day.faults(tariff_changed=CHANGED, result_lost={"rate": 1.0})
        await day.poll()
        await day.send()
        await day.hear()
        day.clock.pass_time(minutes=11)
        await day.ask()
        await day.hear("query_result")
        assert await day.states() == {1: "paid"}
        await audit(day)
        (case,) = await differences(day)
        assert case["evidence"]["said_by"] == "M-Pesa's status answer"
        assert case["evidence"]["fee_taken"] == "KES 7.00"


async def test_one_odd_fall_is_no_case_a_payment_in_the_portal_looks_like_it(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 6)]) as day:
        await day.fund(1000)
        await day.faults(tariff_changed={"times": 1})
        await day.control("settings", {"fee_change_cents": 5_00})
        await pay(day)
        await audit(day)
        assert await differences(day) == []


async def test_payouts_without_a_verdict_hold_the_audit_back_until_they_have_one(open_day) -> None:
    async with open_day([loan(1, 1_000_00), loan(2, 1_000_00), loan(3, 1_000_00)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"times": 1})
        await pay(day)
        assert await audit(day) == 0
        day.clock.pass_time(minutes=11)
        await day.ask()
        await day.hear("query_result")
        assert set((await day.states()).values()) == {"paid"}
        assert await audit(day) == 3
        assert await differences(day) == []


async def test_the_withdrawal_paid_list_is_the_one_compared_with_where_the_partner_is_on_it(open_day) -> None:
    async with open_day([loan(number, 1_000_00) for number in range(1, 4)]) as day:
        await day.fund(1000)
        await pay(day)
        async with day.runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE partners SET b2c_tariff = 'b2c_withdrawal_paid'"))
        await audit(day)
        (case,) = await differences(day)
        assert (case["evidence"]["table_fee"], case["evidence"]["fee_taken"]) == ("KES 34.00", "KES 5.00")
