"""What workers do for wallets by themselves: a real worker process on a real database."""

from sqlalchemy import text

from tests.integration.streams.conftest import until
from vault_core.money import Money
from vault_core.partners.contacts import Contact, write_contacts
from vault_core.wallets.adjustment_proposals import propose_correction
from vault_core.wallets.topup import record_topup
from vault_core.wallets.wallet import load_wallet


async def test_a_low_wallet_is_told_and_a_forgotten_proposal_lapses_without_a_command(runtime, clock, lender, worker):
    async with runtime.engine.begin() as connection:
        await write_contacts(connection, runtime, lender.id, [Contact("operations", "Achieng Ops", "254712000001")])
        await connection.execute(text("UPDATE partners SET low_balance_cents = 500000"))
    clock.pass_time(days=-8)
    await record_topup(runtime, lender.id, Money.shillings(4_000), "FT1", "ops:jane", "bank line")
    await propose_correction(runtime, lender.id, -Money.shillings(1_000), "T-1", reason="r", actor="ops:jane")
    clock.pass_time(days=8)

    async def told_and_lapsed() -> bool:
        async with runtime.engine.connect() as connection:
            texts = (await connection.execute(text("SELECT template FROM messages"))).scalars().all()
            states = (await connection.execute(text("SELECT state FROM wallet_adjustments"))).scalars().all()
            wallet = await load_wallet(connection, lender.id)
        return (texts, states, wallet.available) == (["wallet_low"], ["lapsed"], Money.shillings(4_000))

    await until(told_and_lapsed, worker)
