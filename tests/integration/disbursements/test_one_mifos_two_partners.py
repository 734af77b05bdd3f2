"""A lender with two short codes is two partners with one Mifos X: a loan of it is paid by one of them."""

import pytest

from tests.integration.disbursements.conftest import Day, lender_file, loan
from vault_core.errors import Conflict
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import parse_partner_file
from vault_core.partners.products import Limits, disable_product, enable_product
from vault_core.partners.registration import register_partner

LIMITS = Limits(Money.shillings(500), Money.shillings(200_000))


async def another_partner(day: Day) -> Partner:
    """With the Mifos X of the first one and a short code of its own."""
    described = parse_partner_file(lender_file(day.sandbox, "beta", "600200").replace("/mifos/beta/", "/mifos/alpha/"))
    return await register_partner(day.runtime, described, actor="ops:test")


async def enable(day: Day, partner: Partner) -> None:
    await enable_product(day.runtime, partner, "1", LIMITS, actor="ops:test")


async def test_a_product_is_paid_by_one_partner_of_a_mifos_x_and_changes_over_when_nothing_is_under_way(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        other = await another_partner(day)
        with pytest.raises(Conflict, match="disable it there first"):
            await enable(day, other)
        await disable_product(day.runtime, day.partner, "1", actor="ops:test")
        with pytest.raises(Conflict, match="are not over"):
            await enable(day, other)
        await day.hear("b2c_result")
        await day.post()
        assert await day.states() == {1: "disbursed"}
        await enable(day, other)
        with pytest.raises(Conflict, match="disable it there first"):
            await enable(day, day.partner)
        reports = await day.poll()
        assert [report.found for report in reports] == [0, 0]
