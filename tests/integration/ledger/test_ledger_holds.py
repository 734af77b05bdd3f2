from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.holds import Short
from vault_core.money import Money


async def test_six_holds_of_1000_on_5000_in_one_batch_give_exactly_five(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 5_000_00))
    answers = await book.hold(partner_id, *((f"charges:{n}", 1_000_00) for n in range(6)))
    assert [isinstance(answer, UUID) for answer in answers] == [True] * 5 + [False]
    assert answers[5] == Short(available=Money(0), needed=Money(1_000_00))
    wallet = await book.wallet(partner_id)
    assert (wallet.posted, wallet.held, wallet.available) == (Money(5_000_00), Money(5_000_00), Money(0))


async def test_a_hold_that_is_short_leaves_room_for_a_smaller_one_behind_it(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 100))
    big, small = await book.hold(partner_id, ("big", 101), ("small", 100))
    assert big == Short(available=Money(100), needed=Money(101))
    assert isinstance(small, UUID)


async def test_a_never_used_wallet_is_short_of_everything(book, partner_id: UUID) -> None:
    assert await book.hold(partner_id, ("a", 1)) == [Short(available=Money(0), needed=Money(1))]


async def test_the_same_hold_again_is_the_same_hold(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    first, twin = await book.hold(partner_id, ("a", 400), ("a", 400))
    assert [first] == [twin] == await book.hold(partner_id, ("a", 400))
    assert (await book.wallet(partner_id)).held == Money(400)


@pytest.mark.parametrize("amounts", [[("a", 401)], [("b", 1), ("b", 2)]], ids=["in two batches", "in one batch"])
async def test_the_same_key_for_another_amount_is_a_conflict(book, partner_id: UUID, amounts: list[tuple[str, int]]) -> None:
    await book.post(book.topup(partner_id, 1_000))
    await book.hold(partner_id, ("a", 400))
    with pytest.raises(Conflict, match="another amount"):
        await book.hold(partner_id, *amounts)


async def test_a_capture_in_part_gives_the_rest_back(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    await book.capture((hold, book.charge(partner_id, 150, "charges:1")))
    wallet = await book.wallet(partner_id)
    assert (wallet.posted, wallet.held) == (Money(850), Money(0))


async def test_a_capture_repeated_under_its_key_does_nothing(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    taken = await book.capture((hold, book.charge(partner_id, 150, "charges:1")))
    assert await book.capture((hold, book.charge(partner_id, 150, "charges:1"))) == taken
    assert await book.hold(partner_id, ("charges:1", 400)) == [hold]
    assert (await book.wallet(partner_id)).posted == Money(850)


async def test_the_same_capture_twice_in_one_batch_is_one(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 5_000))
    first, other = await book.hold(partner_id, ("a", 1_000), ("b", 1_000))
    taken = book.charge(partner_id, 600, "charge")
    once, again = await book.capture((first, taken), (first, taken))
    assert once == again
    assert (await book.wallet(partner_id)).posted == Money(4_400)
    with pytest.raises(Conflict, match="posted without it"):
        await book.capture((other, book.charge(partner_id, 5, "more")), (first, taken), (other, taken))


async def test_a_hold_is_captured_by_one_key_only(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    with pytest.raises(Conflict):
        await book.capture((hold, book.charge(partner_id, 150, "a")), (hold, book.charge(partner_id, 150, "b")))
    await book.capture((hold, book.charge(partner_id, 150, "a")))
    with pytest.raises(Conflict, match="captured already"):
        await book.capture((hold, book.charge(partner_id, 150, "b")))
    with pytest.raises(Conflict, match="captured already"):
        await book.release([hold])
    assert (await book.wallet(partner_id)).posted == Money(850)


@pytest.mark.parametrize("cents", [401, -1], ids=["more than held", "into the wallet"])
async def test_a_capture_takes_at_most_what_is_held(book, partner_id: UUID, cents: int) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    with pytest.raises(InvalidInput, match="is of 400 cents"):
        await book.capture((hold, book.charge(partner_id, cents, "a")))
    assert (await book.wallet(partner_id)).held == Money(400)


async def test_a_hold_is_not_captured_from_another_partners_wallet(book, partner_id: UUID) -> None:
    other_id = await book.partner("beta")
    await book.post(book.topup(partner_id, 1_000), book.topup(other_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    with pytest.raises(InvalidInput, match="takes 0 from its account"):
        await book.capture((hold, book.charge(other_id, 400, "a")))


async def test_a_key_posted_without_its_hold_cannot_capture_it_later(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    await book.post(book.charge(partner_id, 100, "charges:1"))
    with pytest.raises(Conflict, match="posted without it"):
        await book.capture((hold, book.charge(partner_id, 100, "charges:1")))


async def test_a_released_hold_gives_everything_back_and_frees_its_key(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    assert await book.release([hold, hold]) == 1
    assert await book.release([hold]) == 0
    assert (await book.wallet(partner_id)).available == Money(1_000)
    (again,) = await book.hold(partner_id, ("charges:1", 500))
    assert again != hold
    with pytest.raises(Conflict, match="released already"):
        await book.capture((hold, book.charge(partner_id, 100, "charges:1")))


async def test_an_unknown_hold_is_neither_captured_nor_released(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    with pytest.raises(Conflict, match="none of that id"):
        await book.release([uuid4()])
    with pytest.raises(Conflict, match="none of that id"):
        await book.capture((uuid4(), book.charge(partner_id, 100, "a")))


async def test_captures_of_many_holds_go_in_one_batch(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 10_000))
    holds = await book.hold(partner_id, *((f"charges:{n}", 100) for n in range(50)))
    await book.capture(*((hold, book.charge(partner_id, 60, f"charges:{n}")) for n, hold in enumerate(holds)))
    wallet = await book.wallet(partner_id)
    assert (wallet.posted, wallet.held) == (Money(7_000), Money(0))


async def test_a_rendered_service_may_take_the_wallet_below_zero_but_holds_then_find_nothing(book, partner_id: UUID) -> None:
    await book.post(book.charge(partner_id, 80, "sms:1"))
    assert (await book.wallet(partner_id)).available == Money(-80)
    assert await book.hold(partner_id, ("a", 1)) == [Short(available=Money(-80), needed=Money(1))]


async def test_a_repeat_of_a_capture_with_another_description_is_still_a_repeat(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 1_000))
    (hold,) = await book.hold(partner_id, ("charges:1", 400))
    charge = book.charge(partner_id, 150, "charges:1")
    assert await book.capture((hold, charge)) == await book.capture((hold, replace(charge, description="again")))
