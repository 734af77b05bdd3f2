from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.balances import trial_balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, post, reversal_of
from vault_core.money import Money


async def test_a_posting_moves_both_balances_and_the_trial_balance_stays_zero(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 500_00))
    assert (await book.wallet(partner_id)).posted == Money(500_00)
    async with book.runtime.engine.connect() as connection:
        lines = await trial_balance(connection)
    assert sum(line.debit.cents - line.credit.cents for line in lines) == 0
    assert {line.account.code: line.debit or line.credit for line in lines} == {
        "bank:settlement": Money(500_00),
        "wallet": Money(500_00),
    }


async def test_the_same_key_and_body_gives_the_first_answer_and_posts_nothing(book, partner_id: UUID) -> None:
    first = await book.post(book.topup(partner_id, 500_00))
    assert await book.post(replace(book.topup(partner_id, 500_00), description="told in other words")) == first
    assert (await book.wallet(partner_id)).posted == Money(500_00)


async def test_the_same_key_with_another_body_is_a_conflict_and_posts_nothing(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 500_00))
    for other in (book.topup(partner_id, 500_01), replace(book.topup(partner_id, 500_00), reference="else")):
        with pytest.raises(Conflict, match="topup:1 was used for another posting"):
            await book.post(book.topup(partner_id, 1, key="innocent"), other)
    assert (await book.wallet(partner_id)).posted == Money(500_00)


async def test_the_same_key_twice_in_one_batch_posts_once(book, partner_id: UUID) -> None:
    first, other, again = await book.post(
        book.topup(partner_id, 500_00), book.topup(partner_id, 7, key="topup:2"), book.topup(partner_id, 500_00)
    )
    assert first == again != other
    assert (await book.wallet(partner_id)).posted == Money(500_07)


async def test_the_same_key_twice_in_one_batch_with_two_bodies_is_a_conflict(book, partner_id: UUID) -> None:
    with pytest.raises(Conflict):
        await book.post(book.topup(partner_id, 500_00), book.topup(partner_id, 400_00))
    assert (await book.wallet(partner_id)).posted == Money(0)


async def test_two_partners_may_use_the_same_key(book, partner_id: UUID) -> None:
    other_id = await book.partner("beta")
    await book.post(book.topup(partner_id, 10), book.topup(other_id, 20))
    assert (await book.wallet(partner_id)).posted == Money(10)
    assert (await book.wallet(other_id)).posted == Money(20)


async def test_a_new_posting_beside_a_repeat_is_posted(book, partner_id: UUID) -> None:
    (first,) = await book.post(book.topup(partner_id, 10))
    again, new = await book.post(book.topup(partner_id, 10), book.topup(partner_id, 5, key="topup:2"))
    assert again == first != new
    assert (await book.wallet(partner_id)).posted == Money(15)


async def test_entries_chain_their_balances_and_versions(book, partner_id: UUID) -> None:
    await book.post(*(book.topup(partner_id, 10 * n, key=f"topup:{n}") for n in range(1, 4)))
    await book.post(book.topup(partner_id, 40, key="topup:4"))
    async with book.runtime.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT account_version, balance_before_cents, balance_after_cents FROM ledger_entries e JOIN ledger_accounts a"
                " ON a.id = e.account_id WHERE a.code = 'wallet' ORDER BY account_version"
            )
        )
        assert [tuple(row) for row in rows] == [(1, 0, -10), (2, -10, -30), (3, -30, -60), (4, -60, -100)]


async def test_a_reversal_undoes_its_original_once(book, partner_id: UUID) -> None:
    (original,) = await book.post(book.topup(partner_id, 500_00))

    async def reverse(key: str) -> UUID:
        async def work(connection) -> UUID:
            undoing = await reversal_of(connection, original, key=key, effective_at=book.WHEN, why="typed twice")
            return (await post(connection, book.runtime, [undoing]))[0]

        return await in_transaction(book.runtime.engine, work)

    undone = await reverse("reversal:1")
    assert await reverse("reversal:1") == undone
    assert (await book.wallet(partner_id)).posted == Money(0)
    with pytest.raises(Conflict, match="reversed already"):
        await reverse("reversal:2")
    async with book.runtime.engine.connect() as connection:
        of_a_reversal = await reversal_of(connection, undone, key="reversal:3", effective_at=book.WHEN, why="")
    with pytest.raises(InvalidInput, match="it is a reversal itself"):
        await book.post(of_a_reversal)


async def test_a_reversal_must_mirror_its_original(book, partner_id: UUID) -> None:
    (original,) = await book.post(book.topup(partner_id, 500_00))
    with pytest.raises(InvalidInput, match="do not mirror"):
        await book.post(replace(book.topup(partner_id, -400_00, key="r"), reverses=original))


async def test_another_partners_transaction_cannot_be_reversed(book, partner_id: UUID) -> None:
    (original,) = await book.post(book.topup(partner_id, 500_00))
    other_id = await book.partner("beta")
    with pytest.raises(InvalidInput, match="this partner has none of that id"):
        await book.post(replace(book.topup(other_id, -500_00, key="r"), reverses=original))


def test_a_posting_that_does_not_sum_to_zero_is_refused_before_the_database(book) -> None:
    partner_id = uuid4()
    with pytest.raises(InvalidInput, match="sum to 1 cents"):
        replace(book.topup(partner_id, 5), legs=(Leg(book.BANK, 5), Leg(AccountRef(partner_id, "wallet"), -4)))


def test_a_posting_over_two_partners_is_refused_before_the_database(book) -> None:
    with pytest.raises(InvalidInput, match="another partner's"):
        replace(book.topup(uuid4(), 5), partner_id=uuid4())


async def test_an_empty_batch_does_nothing(book) -> None:
    assert await book.post() == []


async def test_what_no_account_could_hold_or_no_text_be_is_refused_in_words(book, partner_id: UUID) -> None:
    most = 2**63 - 1
    await book.post(book.topup(partner_id, most))
    for beyond in ((1,), (most - 1, most - 1), (2**63,)):
        with pytest.raises(InvalidInput, match="out of range"):
            await book.post(*(book.topup(partner_id, cents, f"more:{n}") for n, cents in enumerate(beyond)))
    with pytest.raises(InvalidInput, match="NUL"):
        await book.post(book.topup(partner_id, 1, "a\x00b"))
    assert (await book.wallet(partner_id)).posted == Money(most)
