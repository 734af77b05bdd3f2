"""Charges of collections: taken when the money is booked, once, by the partner's bouquet and fees; every leg has its line."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.integration.collections.conftest import Umoja
from vault_core.clock import business_day
from vault_core.money import Money
from vault_core.partners.fee_setting import FeeBearers, set_fee, set_fee_bearers
from vault_core.partners.system_fees import FeeTerms
from vault_core.wallets.charges_proof import charges_findings

HALF_A_PERCENT = FeeTerms("collection", rate_basis_points=50, least=Money(5_00), most=Money(20_00))


async def lines(umoja: Umoja, receipt: str) -> dict[str, int]:
    return {row.line: row.amount_cents for row in await line_rows(umoja, receipt)}


async def line_rows(umoja: Umoja, receipt: str) -> list[Any]:
    collection = await umoja.collection(receipt)
    rows = await umoja.rows("SELECT * FROM charge_lines WHERE subject_kind = 'collection' ORDER BY line")
    return [row for row in rows if row.subject_id == collection.id]


async def terms(umoja: Umoja, **bearers: str) -> None:
    await set_fee_bearers(umoja.runtime, umoja.partner, FeeBearers(**bearers), actor="ops:test")


async def fee(umoja: Umoja, what: FeeTerms = HALF_A_PERCENT) -> None:
    await set_fee(umoja.runtime, umoja.partner, what, business_day(umoja.runtime.clock.now()), actor="ops:test")


async def test_what_mpesa_took_from_the_pay_bill_is_not_charged_again_and_nothing_due_is_said(umoja: Umoja) -> None:
    await umoja.pay("R1", 1_200_00, "nobody's")
    assert await lines(umoja, "R1") == {"mpesa_fee": 0, "system_fee": 0, "excise": 0}
    assert await umoja.balance("wallet") == Money(0)
    assert [row.transaction_id for row in await line_rows(umoja, "R1")] == [None, None, None]
    assert await umoja.rows("SELECT id FROM ledger_transactions WHERE kind = 'charges'") == []


async def test_each_line_is_a_leg_of_its_own_with_the_row_it_came_from_and_the_wallet_may_go_below_zero(umoja: Umoja) -> None:
    await terms(umoja, c2b_bouquet="mgao", c2b_fee_paid_by="wallet")
    await fee(umoja)
    await umoja.pay("R1", 1_200_00, "nobody's")
    assert await lines(umoja, "R1") == {"mpesa_fee": 5_00, "system_fee": 6_00, "excise": 90}
    assert await umoja.balance("wallet") == Money(-11_90)
    rows = {row.line: row for row in await line_rows(umoja, "R1")}
    assert rows["system_fee"].system_fee_id is not None
    assert None not in (rows["mpesa_fee"].tariff_band_id, rows["excise"].tariff_band_id)
    (taken,) = {row.transaction_id for row in rows.values()}
    legs = await umoja.rows(
        "SELECT a.code, e.amount_cents, t.id, t.key, t.reference FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id"
        " JOIN ledger_accounts a ON a.id = e.account_id WHERE t.kind = 'charges' ORDER BY a.code"
    )
    assert [(leg.code, leg.amount_cents) for leg in legs] == [
        ("fees:mpesa", -5_00),
        ("fees:system", -6_00),
        ("tax:excise", -90),
        ("wallet", 11_90),
    ]
    assert {leg.id for leg in legs} == {taken}
    assert (legs[0].key, legs[0].reference) == (f"charges:{(await umoja.collection('R1')).id}", "R1")


@pytest.mark.parametrize(("cents", "system_fee"), [(100_00, 5_00), (2_000_00, 10_00), (9_000_00, 20_00)])
async def test_a_fee_by_percentage_keeps_its_bounds(umoja: Umoja, cents: int, system_fee: int) -> None:
    await fee(umoja)
    await umoja.pay("R1", cents, "nobody's")
    assert (await lines(umoja, "R1"))["system_fee"] == system_fee


async def test_the_same_payment_told_again_is_charged_once(umoja: Umoja) -> None:
    await fee(umoja)
    body = umoja.payment("R1", 1_200_00, "nobody's")
    await umoja.confirm(body, body)
    await umoja.confirm(body)
    assert await umoja.balance("wallet") == Money(-6_90)
    assert len(await line_rows(umoja, "R1")) == 3


async def test_money_that_no_price_list_covers_is_booked_all_the_same_with_a_case(umoja: Umoja) -> None:
    await fee(umoja)
    await umoja.confirm(umoja.payment("R1", 300_000_00, "nobody's"), umoja.payment("R2", 1_200_00, "nobody's"))
    assert await umoja.balance("collected_unposted") == Money(301_200_00)
    (case,) = [case for case in await umoja.cases() if case.kind == "collection_not_charged"]
    assert case.subject.endswith("R1")
    assert "has no band for KES 300,000.00" in case.evidence["reason"]
    assert await line_rows(umoja, "R1") == []
    assert (await lines(umoja, "R2"))["system_fee"] == 6_00


async def test_the_price_is_that_of_the_day_it_happened_on(umoja: Umoja) -> None:
    clock = umoja.runtime.clock
    late = umoja.payment("R1", 1_200_00, "nobody's")
    clock.pass_time(days=1)
    await set_fee(umoja.runtime, umoja.partner, HALF_A_PERCENT, business_day(clock.now()), actor="ops:test")
    await umoja.confirm(late, umoja.payment("R2", 1_200_00, "nobody's"))
    assert (await lines(umoja, "R1"))["system_fee"] == 0
    assert (await lines(umoja, "R2"))["system_fee"] == 6_00


async def test_charges_and_lines_agree_exactly_and_the_proof_says_where_they_do_not(umoja: Umoja, owner_url: str) -> None:
    await terms(umoja, c2b_bouquet="customer", c2b_fee_paid_by="wallet")
    await fee(umoja)
    for number, cents in enumerate((50_00, 600_00, 20_000_00)):
        await umoja.pay(f"R{number}", cents, "nobody's")
    engine = umoja.runtime.engine
    assert await charges_findings(engine) == []
    owner = create_engine(owner_url, poolclass=NullPool)
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # past the guard
        connection.execute(
            text("UPDATE charge_lines SET amount_cents = amount_cents + 1 WHERE line = 'excise' AND amount_cents > 100")
        )
    (finding, *_) = await charges_findings(engine)
    assert (finding.check, "excise" in finding.what) == ("charges_are_their_lines", True)


async def test_a_fee_set_for_tomorrow_charges_nothing_today(umoja: Umoja) -> None:
    tomorrow = business_day(umoja.runtime.clock.now() + timedelta(days=1))
    await set_fee(umoja.runtime, umoja.partner, HALF_A_PERCENT, tomorrow, actor="ops:test")
    await umoja.pay("R1", 1_200_00, "nobody's")
    assert (await lines(umoja, "R1"))["system_fee"] == 0
