from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.balances import balance, trial_balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post, reversal_of
from vault_core.money import Money
from vault_core.runtime import Runtime

WHEN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
BANK = AccountRef(None, "bank:settlement")

ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
        c2b_short_code, sms_url, sms_user, sms_sender, sms_price_cents, next_poll_at, created_at)
    VALUES (:id, :name, :name, 'u', 't', 'm', 'u', 'i', :b2c, :c2b, 'u', 's', 's', 80, :now, :now)
    """
)


async def add_partner(runtime: Runtime, name: str) -> UUID:
    partner_id = uuid4()
    async with runtime.engine.begin() as connection:
        await connection.execute(
            ADD_PARTNER, {"id": partner_id, "name": name, "b2c": f"b{name}", "c2b": f"c{name}", "now": runtime.clock.now()}
        )
    return partner_id


@pytest.fixture
async def partner_id(runtime: Runtime) -> UUID:
    return await add_partner(runtime, "alpha")


def topup(partner_id: UUID, cents: int, key: str = "topup:1") -> Posting:
    legs = (Leg(BANK, cents), Leg(AccountRef(partner_id, "wallet"), -cents))
    return Posting(partner_id=partner_id, kind="topup", key=key, reference=key, effective_at=WHEN, legs=legs)


async def post_all(runtime: Runtime, *postings: Posting) -> list[UUID]:
    return await in_transaction(runtime.engine, lambda connection: post(connection, runtime, postings))


async def wallet(runtime: Runtime, partner_id: UUID):
    async with runtime.engine.connect() as connection:
        return await balance(connection, AccountRef(partner_id, "wallet"))


async def test_a_posting_moves_both_balances_and_the_trial_balance_stays_zero(runtime: Runtime, partner_id: UUID) -> None:
    await post_all(runtime, topup(partner_id, 500_00))
    assert (await wallet(runtime, partner_id)).posted == Money(500_00)
    async with runtime.engine.connect() as connection:
        lines = await trial_balance(connection)
    assert sum(line.debit.cents - line.credit.cents for line in lines) == 0
    assert {line.account.code: line.debit or line.credit for line in lines} == {"bank:settlement": Money(500_00), "wallet": Money(500_00)}


async def test_the_same_key_and_body_gives_the_first_answer_and_posts_nothing(runtime: Runtime, partner_id: UUID) -> None:
    first = await post_all(runtime, topup(partner_id, 500_00))
    assert await post_all(runtime, replace(topup(partner_id, 500_00), description="told in other words")) == first
    assert (await wallet(runtime, partner_id)).posted == Money(500_00)


async def test_the_same_key_with_another_body_is_a_conflict_and_posts_nothing(runtime: Runtime, partner_id: UUID) -> None:
    await post_all(runtime, topup(partner_id, 500_00))
    for other in (topup(partner_id, 500_01), replace(topup(partner_id, 500_00), reference="else")):
        with pytest.raises(Conflict, match="topup:1 was used for another posting"):
            await post_all(runtime, topup(partner_id, 1, key="innocent"), other)
    assert (await wallet(runtime, partner_id)).posted == Money(500_00)


async def test_the_same_key_twice_in_one_batch_posts_once(runtime: Runtime, partner_id: UUID) -> None:
    first, other, again = await post_all(
        runtime, topup(partner_id, 500_00), topup(partner_id, 7, key="topup:2"), topup(partner_id, 500_00)
    )
    assert first == again != other
    assert (await wallet(runtime, partner_id)).posted == Money(500_07)


async def test_the_same_key_twice_in_one_batch_with_two_bodies_is_a_conflict(runtime: Runtime, partner_id: UUID) -> None:
    with pytest.raises(Conflict):
        await post_all(runtime, topup(partner_id, 500_00), topup(partner_id, 400_00))
    assert (await wallet(runtime, partner_id)).posted == Money(0)


async def test_two_partners_may_use_the_same_key(runtime: Runtime, partner_id: UUID) -> None:
    other_id = await add_partner(runtime, "beta")
    await post_all(runtime, topup(partner_id, 10), topup(other_id, 20))
    assert (await wallet(runtime, partner_id)).posted == Money(10)
    assert (await wallet(runtime, other_id)).posted == Money(20)


async def test_a_new_posting_beside_a_repeat_is_posted(runtime: Runtime, partner_id: UUID) -> None:
    (first,) = await post_all(runtime, topup(partner_id, 10))
    again, new = await post_all(runtime, topup(partner_id, 10), topup(partner_id, 5, key="topup:2"))
    assert again == first != new
    assert (await wallet(runtime, partner_id)).posted == Money(15)


async def test_entries_chain_their_balances_and_versions(runtime: Runtime, partner_id: UUID) -> None:
    await post_all(runtime, *(topup(partner_id, 10 * n, key=f"topup:{n}") for n in range(1, 4)))
    await post_all(runtime, topup(partner_id, 40, key="topup:4"))
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT account_version, balance_before_cents, balance_after_cents FROM ledger_entries e JOIN ledger_accounts a"
                " ON a.id = e.account_id WHERE a.code = 'wallet' ORDER BY account_version"
            )
        )
        assert [tuple(row) for row in rows] == [(1, 0, -10), (2, -10, -30), (3, -30, -60), (4, -60, -100)]


async def test_a_reversal_undoes_its_original_once(runtime: Runtime, partner_id: UUID) -> None:
    (original,) = await post_all(runtime, topup(partner_id, 500_00))

    async def reverse(key: str) -> UUID:
        async def work(connection):
            undoing = await reversal_of(connection, original, key=key, effective_at=WHEN, why="typed twice")
            return (await post(connection, runtime, [undoing]))[0]

        return await in_transaction(runtime.engine, work)

    undone = await reverse("reversal:1")
    assert await reverse("reversal:1") == undone
    assert (await wallet(runtime, partner_id)).posted == Money(0)
    with pytest.raises(Conflict, match="reversed already"):
        await reverse("reversal:2")
    async with runtime.engine.connect() as connection:
        of_a_reversal = await reversal_of(connection, undone, key="reversal:3", effective_at=WHEN, why="")
    with pytest.raises(InvalidInput, match="it is a reversal itself"):
        await post_all(runtime, of_a_reversal)


async def test_a_reversal_must_mirror_its_original(runtime: Runtime, partner_id: UUID) -> None:
    (original,) = await post_all(runtime, topup(partner_id, 500_00))
    with pytest.raises(InvalidInput, match="do not mirror"):
        await post_all(runtime, replace(topup(partner_id, -400_00, key="r"), reverses=original))


async def test_another_partners_transaction_cannot_be_reversed(runtime: Runtime, partner_id: UUID) -> None:
    (original,) = await post_all(runtime, topup(partner_id, 500_00))
    other_id = await add_partner(runtime, "beta")
    with pytest.raises(InvalidInput, match="this partner has none of that id"):
        await post_all(runtime, replace(topup(other_id, -500_00, key="r"), reverses=original))


def test_a_posting_that_does_not_sum_to_zero_is_refused_before_the_database() -> None:
    partner_id = uuid4()
    with pytest.raises(InvalidInput, match="sum to 1 cents"):
        replace(topup(partner_id, 5), legs=(Leg(BANK, 5), Leg(AccountRef(partner_id, "wallet"), -4)))


def test_a_posting_over_two_partners_is_refused_before_the_database() -> None:
    with pytest.raises(InvalidInput, match="another partner's"):
        replace(topup(uuid4(), 5), partner_id=uuid4())


async def test_an_empty_batch_does_nothing(runtime: Runtime) -> None:
    assert await post_all(runtime) == []
