import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.topup import TopUp, record_topup
from vault_core.wallets.wallet import load_wallet


async def top_up(runtime: Runtime, partner_id: UUID, cents: int, reference: str = "FT1", reason: str = "bank line") -> TopUp:
    return await record_topup(runtime, partner_id, Money(cents), reference, "ops:jane", reason)


async def test_a_topup_credits_the_wallet_and_is_audited(runtime: Runtime, partner_id: UUID) -> None:
    done = await top_up(runtime, partner_id, 25_000_00)
    assert done.wallet.available == Money(25_000_00)
    async with runtime.engine.connect() as connection:
        act = (await connection.execute(text("SELECT actor, act, subject, before, after, reason FROM audit_log"))).one()
    assert (act.actor, act.act, act.subject, act.reason) == ("ops:jane", "wallet.topped_up", "wallet alpha", "bank line")
    assert (act.before["posted_cents"], act.after["posted_cents"], act.after["reference"]) == (0, 25_000_00, "FT1")


async def test_the_same_reference_counts_once(runtime: Runtime, partner_id: UUID, clock) -> None:
    first = await top_up(runtime, partner_id, 100)
    clock.pass_time(days=1)
    again = await top_up(runtime, partner_id, 100)
    assert (again.transaction_id, again.repeated) == (first.transaction_id, True)
    assert again.wallet.posted == Money(100)
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM audit_log"))).scalar_one() == 1


async def test_the_same_reference_at_once_counts_once(runtime: Runtime, partner_id: UUID) -> None:
    done = await asyncio.gather(*(top_up(runtime, partner_id, 100) for _ in range(4)))
    assert sorted(one.repeated for one in done) == [False, True, True, True]
    async with runtime.engine.connect() as connection:
        assert (await load_wallet(connection, partner_id)).posted == Money(100)


async def test_the_same_reference_with_another_amount_is_a_conflict(runtime: Runtime, partner_id: UUID) -> None:
    await top_up(runtime, partner_id, 100)
    with pytest.raises(Conflict, match=r"FT1 is recorded with KES 1\.00, not KES 2\.00"):
        await top_up(runtime, partner_id, 200)


@pytest.mark.parametrize("cents", [0, -100, 10**14])
async def test_an_amount_that_no_transfer_carries_is_refused(runtime: Runtime, partner_id: UUID, cents: int) -> None:
    with pytest.raises(InvalidInput, match="positive amount"):
        await top_up(runtime, partner_id, cents)


@pytest.mark.parametrize("reference", ["", "  ", "x" * 65, "a\nb"])
async def test_a_topup_without_a_usable_reference_is_refused(runtime: Runtime, partner_id: UUID, reference: str) -> None:
    with pytest.raises(InvalidInput, match="reference"):
        await top_up(runtime, partner_id, 100, reference=reference)


async def test_a_topup_without_a_reason_is_refused(runtime: Runtime, partner_id: UUID) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        await top_up(runtime, partner_id, 100, reason=" ")


async def test_an_unknown_partner_has_no_wallet(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="no partner"):
        await top_up(runtime, uuid4(), 100)
