"""A day on which people moved, shared and gave back payments reconciles three ways without a break."""

from vault_core.clock import business_day
from vault_core.database import open_sync_engine
from vault_core.money import Money
from vault_core.reconciliation.core_reading import read_core_day
from vault_core.reconciliation.three_way import read_control, read_reconciliation


async def test_a_day_of_decisions_is_matched_on_all_three_sides(office):
    await office.setting(overpayment="to_savings")
    people = [{"id": 4, "first_name": "Ann", "last_name": "Mutua", "mobile_no": "0712000004"}]
    loans = [{"id": 41, "client": 4, "product": 1, "principal_cents": 5_000_00, "status": 300}]
    await office.control("setup", {"mifos": {"alpha": {"clients": people, "loans": loans, "savings": [{"id": 42, "client": 4}]}}})
    due = (await office.truth())["mifos"]["alpha"]["loans"]["41"]["outstanding_cents"]
    shared = await office.customer_pays(due + 300_00, "000000041")
    moved = await office.customer_pays(500_00, "000000011")
    await office.move(moved, "loan:000000012")
    await office.settle("collection.undo")
    await office.settle()
    gone = await office.customer_pays(200_00, "nobody")
    await office.reverse(gone)
    await office.approve(gone)
    await office.send_reversals()
    await office.hear()
    waits = await office.customer_pays(100_00, "nobody")

    runtime = office.runtime
    day = business_day(runtime.clock.now())
    await read_core_day(runtime, office.connections, day)
    engine = open_sync_engine(runtime.engine.url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        frame = read_reconciliation(connection, day, now=runtime.clock.now())
        control = read_control(connection, day)
    engine.dispose()
    outcomes = {(row.flow, row.receipt): row.outcome for row in frame.itertuples()}
    [back] = await office.rows("SELECT receipt FROM rail_lines WHERE rail = 'mpesa_reversal'")
    assert outcomes == {
        ("collection", shared): "matched",
        ("collection", moved): "matched",
        ("collection", gone): "matched",
        ("reversal", back.receipt): "matched",
        ("collection", waits): "in_suspense",
    }
    assert (control.receipts, Money(control.cents)) == (5, Money(due + 300_00 + 500_00 + 200_00 + 200_00 + 100_00))
