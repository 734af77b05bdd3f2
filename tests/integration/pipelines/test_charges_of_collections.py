"""The charges report of a day with collection charges: receipt, tariff, band and fee of each line, equal to the ledger."""

import pandas as pd
from sqlalchemy import create_engine

from vault_core.clock import business_day
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.database import in_transaction
from vault_core.money import Money
from vault_core.partners.fee_setting import FeeBearers, set_fee, set_fee_bearers
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import FeeTerms
from vault_core.reconciliation.charges_report import read_charges, wallet_charges_cents
from vault_core.runtime import Runtime


async def test_each_line_names_its_receipt_and_the_row_it_came_from(runtime: Runtime, lender: Partner, database_url: str) -> None:
    day = business_day(runtime.clock.now())
    await set_fee_bearers(runtime, lender, FeeBearers(c2b_bouquet="mgao", c2b_fee_paid_by="wallet"), actor="ops:test")
    await set_fee(runtime, lender, FeeTerms("collection", flat=Money(20_00)), day, actor="ops:test")
    payment = IncomingPayment(
        partner_id=lender.id,
        short_code=lender.c2b_short_code,
        receipt="SKQ1",
        amount=Money(1_200_00),
        happened_at=runtime.clock.now(),
        source="c2b",
        event_id=runtime.new_id(),
        org_balance=None,
        bill_reference="1",
        payer_phone=None,
        payer_name=None,
    )
    await in_transaction(runtime.engine, lambda connection: book_payments(connection, runtime, [payment]))
    engine = create_engine(database_url)
    with engine.connect() as connection:
        frame, taken = read_charges(connection, day), wallet_charges_cents(connection, day)
    engine.dispose()
    assert set(frame["subject"]) == {"collection"}
    assert set(frame["reference"]) == {"SKQ1"}
    assert int(frame["amount_cents"].sum()) == taken == 5_00 + 20_00 + 3_00
    rows = frame.set_index("line")
    assert rows.loc["mpesa_fee", "tariff"] == "safaricom c2b_mgao 2023-08-01"
    assert (rows.loc["mpesa_fee", "band_from_cents"], rows.loc["mpesa_fee", "band_to_cents"]) == (1_000_01, 1_500_00)
    assert rows.loc["excise", "tariff"].startswith("kra excise_fees")
    assert rows.loc["excise", "band_from_cents"] == 0
    assert pd.isna(rows.loc["excise", "band_to_cents"])  # the band has no end
    assert pd.isna(rows.loc["excise", "system_fee"])
    assert not pd.isna(rows.loc["system_fee", "system_fee"])
