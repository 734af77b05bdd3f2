import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import ZERO, Money
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import approve_adjustment, reject_adjustment
from vault_core.wallets.adjustments import Adjustment
from vault_core.wallets.topup import TopUp, record_topup
from vault_core.wallets.wallet import load_wallet

LARGE = Money.shillings(50_000) + Money(1)


async def top_up(runtime: Runtime, partner_id: UUID, cents: int, reference: str = "FT1", reason: str = "bank line") -> TopUp:
    done = await record_topup(runtime, partner_id, Money(cents), reference, "ops:jane", reason)
    assert isinstance(done, TopUp)
    return done


async def propose(runtime: Runtime, partner_id: UUID, reference: str = "FT1") -> Adjustment:
    proposed = await record_topup(runtime, partner_id, LARGE, reference, "ops:jane", "bank line")
    assert isinstance(proposed, Adjustment)
    return proposed


async def posted(runtime: Runtime, partner_id: UUID) -> Money:
    async with runtime.engine.connect() as connection:
        return (await load_wallet(connection, partner_id)).posted


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
    assert await posted(runtime, partner_id) == Money(100)


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


async def test_a_topup_above_the_limit_is_credited_when_a_second_person_has_seen_it(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id)
    assert (proposed.kind, proposed.state, proposed.reference) == ("topup", "proposed", "FT1")
    assert await posted(runtime, partner_id) == ZERO
    with pytest.raises(Conflict, match="another login must approve it"):
        await approve_adjustment(runtime, proposed.id, actor="ops:jane")
    assert await posted(runtime, partner_id) == ZERO
    approved = await approve_adjustment(runtime, proposed.id, actor="ops:otieno")
    assert await posted(runtime, partner_id) == LARGE
    async with runtime.engine.connect() as connection:
        query = text("SELECT kind, key, reference FROM ledger_transactions WHERE id = :id")
        row = (await connection.execute(query, {"id": approved.transaction_id})).one()
    assert tuple(row) == ("topup", "topup:FT1", "FT1")


async def test_a_topup_up_to_the_limit_needs_one_person(runtime: Runtime, partner_id: UUID) -> None:
    assert not (await top_up(runtime, partner_id, LARGE.cents - 1)).repeated


async def test_a_large_topup_counts_once_however_it_is_repeated(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id)
    with pytest.raises(Conflict, match=f"FT1 is in use: ops:jane proposed adjustment {proposed.id}, proposed"):
        await propose(runtime, partner_id)
    done = await approve_adjustment(runtime, proposed.id, actor="ops:otieno")
    again = await top_up(runtime, partner_id, LARGE.cents)
    assert (again.transaction_id, again.repeated) == (done.transaction_id, True)
    assert await posted(runtime, partner_id) == LARGE


async def test_a_large_topup_is_not_approved_once_its_reference_is_recorded(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id)
    await top_up(runtime, partner_id, 100)
    with pytest.raises(Conflict, match=r"FT1 is recorded with KES 1\.00"):
        await approve_adjustment(runtime, proposed.id, actor="ops:otieno")
    assert await posted(runtime, partner_id) == Money(100)


async def test_a_large_topup_that_was_rejected_may_be_proposed_anew(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id)
    await reject_adjustment(runtime, proposed.id, reason="not on the statement yet", actor="ops:otieno")
    assert (await propose(runtime, partner_id)).id != proposed.id
    assert await posted(runtime, partner_id) == ZERO


async def test_the_table_takes_no_topup_that_its_transaction_does_not_bear_out(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id)
    other = await top_up(runtime, partner_id, 100, reference="FT2")
    query = text(
        "UPDATE wallet_adjustments SET state = 'approved', decided_by = 'ops:otieno', decided_at = :at, transaction_id = :other "
        "WHERE id = :id"
    )
    with pytest.raises(DBAPIError, match="not posted as it was proposed"):
        async with runtime.engine.begin() as connection:
            await connection.execute(query, {"id": proposed.id, "other": other.transaction_id, "at": runtime.clock.now()})
