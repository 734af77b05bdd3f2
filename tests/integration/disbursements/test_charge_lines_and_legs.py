"""What left a wallet for payouts and texts is what the charge lines say: each a leg of its own, with the row it came from."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.integration.disbursements.conftest import loan
from vault_core.clock import business_day
from vault_core.money import Money
from vault_core.partners.fee_setting import FeeBearers, set_fee, set_fee_bearers
from vault_core.partners.system_fees import FeeTerms
from vault_core.wallets.charges_proof import charges_findings


async def test_lines_of_payouts_and_texts_agree_with_the_legs_and_name_band_and_fee(open_day) -> None:
    async with open_day([loan(1, 1_000_00), loan(2, 30_000_00)]) as day:
        own = FeeTerms("disbursement", 1, flat=Money(10_00), rate_basis_points=25, most=Money(60_00))
        await set_fee(day.runtime, day.partner, own, business_day(day.clock.now()), actor="ops:test")
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear()
        await day.post()
        await day.text_people()
        assert await charges_findings(day.runtime.engine) == []
        fees = await day.rows("SELECT * FROM charge_lines WHERE line = 'system_fee' ORDER BY amount_cents")
        assert [row["amount_cents"] for row in fees] == [12_50, 60_00]
        (rule,) = await day.rows("SELECT id FROM system_fees WHERE product_id = 1")
        assert {row["system_fee_id"] for row in fees} == {rule["id"]}
        priced = await day.rows("SELECT * FROM charge_lines WHERE line IN ('mpesa_fee', 'excise')")
        assert len(priced) == 4
        assert all(row["tariff_band_id"] and row["transaction_id"] for row in priced)
        texts = await day.rows(
            "SELECT l.amount_cents, m.parts FROM charge_lines l JOIN messages m ON m.id = l.subject_id WHERE l.line = 'sms'"
        )
        assert texts
        assert all(row["amount_cents"] == 80 * row["parts"] for row in texts)


async def test_what_the_short_code_pays_is_a_line_of_zero_and_no_leg(open_day) -> None:
    async with open_day([loan(1, 1_000_00)]) as day:
        await set_fee_bearers(day.runtime, day.partner, FeeBearers(mpesa_fee_paid_by="short_code"), actor="ops:test")
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear()
        (line,) = await day.rows("SELECT * FROM charge_lines WHERE line = 'mpesa_fee'")
        assert (line["amount_cents"], line["tariff_band_id"] is not None) == (0, True)
        assert await day.balance("fees:mpesa", house=True) == 0
        assert await day.balance("fees:system", house=True) == -50_00
        assert await charges_findings(day.runtime.engine) == []


# What the processes' own login tries on a line that is quoted ('held') or charged.
REWRITES = {
    "a quote's amount": ("held", "UPDATE charge_lines SET amount_cents = 1"),
    "a quote's price list": ("held", "UPDATE charge_lines SET tariff_band_id = NULL"),
    "a charge's amount": ("charged", "UPDATE charge_lines SET amount_cents = 1"),
    "a charge's transaction": ("charged", "UPDATE charge_lines SET transaction_id = NULL"),
    "a charge's time": ("charged", "UPDATE charge_lines SET charged_at = now()"),
    "a charge is forgotten": ("charged", "DELETE FROM charge_lines"),
    "all are forgotten": ("charged", "TRUNCATE charge_lines"),
    "a payout is forgotten": ("charged", "DELETE FROM disbursements"),
    "an instruction is forgotten": ("charged", "DELETE FROM disbursement_attempts"),
    "a case is forgotten": ("held", "DELETE FROM cases"),
    "what M-Pesa said of its fee is forgotten": ("charged", "DELETE FROM mpesa_fee_readings"),
}


@pytest.mark.parametrize(("state", "statement"), REWRITES.values(), ids=REWRITES.keys())
async def test_the_processes_login_cannot_rewrite_what_was_quoted_or_charged(open_day, state: str, statement: str) -> None:
    async with open_day([loan(1, 1_000_00)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        if state == "charged":
            await day.hear()
        before = await day.rows("SELECT * FROM charge_lines ORDER BY id")
        assert {line["charged_at"] is None for line in before} == {state == "held"}
        with pytest.raises(DBAPIError, match=r"permission denied|is charged already"):
            async with day.runtime.engine.begin() as connection:
                await connection.execute(text(statement))
        assert await day.rows("SELECT * FROM charge_lines ORDER BY id") == before
