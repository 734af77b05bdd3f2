from tests.integration.disbursements.conftest import loan
from vault_core.ledger.holds import expire_holds


async def test_what_is_held_for_a_payout_carries_no_expiry(open_day, clock) -> None:
    """Its outcome may become unknown as soon as it is sent: however long that lasts, the money stays set aside."""
    async with open_day([loan(1)]) as day:
        await day.fund(1_000)
        await day.poll()
        await day.send()
        held = await day.held_cents()
        assert held > 0
        assert await day.rows("SELECT DISTINCT expires_at FROM ledger_holds") == [{"expires_at": None}]
        clock.pass_time(days=400)
        assert await expire_holds(day.runtime) == 0
        assert await day.held_cents() == held
