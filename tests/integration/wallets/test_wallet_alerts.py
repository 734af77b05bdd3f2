from uuid import UUID

from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.alerts import end_alerts, raise_alert
from vault_core.wallets.wallet import load_wallet


async def test_an_alert_is_told_once_a_shortage(runtime: Runtime, partner_id: UUID) -> None:
    async with runtime.engine.begin() as connection:
        assert await raise_alert(connection, runtime, partner_id, "short", Money(10))
        assert not await raise_alert(connection, runtime, partner_id, "short", Money(5))
        assert (await load_wallet(connection, partner_id)).short_since == runtime.clock.now()
        assert await end_alerts(connection, runtime, [partner_id], "short") == {partner_id: runtime.clock.now()}
        assert await end_alerts(connection, runtime, [partner_id], "short") == {}
        assert await raise_alert(connection, runtime, partner_id, "short", Money(0))


async def test_the_two_kinds_are_told_apart(runtime: Runtime, partner_id: UUID) -> None:
    async with runtime.engine.begin() as connection:
        assert await raise_alert(connection, runtime, partner_id, "low", Money(10))
        assert await raise_alert(connection, runtime, partner_id, "short", Money(10))
        assert await end_alerts(connection, runtime, [partner_id], "low")
        assert not await raise_alert(connection, runtime, partner_id, "short", Money(10))
