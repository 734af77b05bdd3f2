from collections.abc import Sequence

import pytest
from sqlalchemy import text

from vault_core.errors import DatabaseBusy, InvalidInput
from vault_core.inbox.applying import apply_deliveries, read_each
from vault_core.inbox.delivery import Delivery


async def rows_of(runtime):
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text("SELECT *, xmin FROM inbound_events ORDER BY id"))).all()


class Counter:
    """Applies deliveries by remembering their bodies; refuses those that say so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.applied: list[bytes] = []

    async def __call__(self, _connection, deliveries: Sequence[Delivery]):
        bodies = [delivery.body for delivery in deliveries]
        if self.error is not None and b"poison" in bodies:
            raise self.error
        self.applied += bodies
        return {delivery.id: f"applied {delivery.body.decode()}" for delivery in deliveries}


async def test_deliveries_are_applied_with_their_effect_and_only_once(runtime, store):
    ids = await store(b"a", b"b", b"c")
    counter = Counter()
    assert await apply_deliveries(runtime, [ids[2], ids[0], ids[1]], counter) == 3
    assert await apply_deliveries(runtime, ids, counter) == 0
    assert sorted((row.state, row.effect, row.cause) for row in await rows_of(runtime)) == [
        ("processed", "applied a", None),
        ("processed", "applied b", None),
        ("processed", "applied c", None),
    ]
    assert sorted(counter.applied) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("error", [InvalidInput("no amount in it"), KeyError("TransID"), ValueError("x"), ArithmeticError("y")])
async def test_one_bad_delivery_becomes_an_exception_and_the_others_are_applied(runtime, store, error):
    bodies = [b"%d" % n for n in range(6)] + [b"poison"] + [b"%d" % n for n in range(6, 9)]
    ids = await store(*bodies)
    counter = Counter(error)
    assert await apply_deliveries(runtime, ids, counter) == 9
    by_state = {row.id: row for row in await rows_of(runtime)}
    bad = [row for row in by_state.values() if row.state == "exception"]
    assert len(bad) == 1
    assert type(error).__name__ in bad[0].cause
    assert sum(row.state == "processed" for row in by_state.values()) == 9


async def test_bodies_that_cannot_be_read_are_set_aside_in_the_transaction_of_the_others(runtime, store):
    ids = await store(*[b"poison %d" % n if n % 4 == 0 else b"%d" % n for n in range(40)])
    batches: list[int] = []

    def read(delivery: Delivery) -> bytes:
        if delivery.body.startswith(b"poison"):
            raise InvalidInput(f"{delivery.body.decode()} is no payment")
        return delivery.body

    async def apply(_connection, deliveries: Sequence[Delivery]):
        batches.append(len(deliveries))
        good, bad = read_each(deliveries, read)
        assert sorted(good.values(), key=int) == [b"%d" % n for n in range(40) if n % 4]
        return {**dict.fromkeys(good, "applied"), **bad}

    assert await apply_deliveries(runtime, ids, apply) == 30
    assert batches == [40]  # nothing was done twice
    rows = await rows_of(runtime)
    assert {row.cause for row in rows if row.state == "exception"} == {
        f"InvalidInput: poison {n} is no payment" for n in range(0, 40, 4)
    }
    assert len({row.xmin for row in rows}) == 1


async def test_a_transient_failure_leaves_every_delivery_as_it_was(runtime, store):
    ids = await store(b"a", b"poison")
    with pytest.raises(DatabaseBusy):
        await apply_deliveries(runtime, ids, Counter(DatabaseBusy("lock")))
    assert {row.state for row in await rows_of(runtime)} == {"stored"}


async def test_ids_that_nobody_stored_do_nothing(runtime):
    assert await apply_deliveries(runtime, [runtime.new_id()], Counter()) == 0
    assert await apply_deliveries(runtime, [], Counter()) == 0


async def test_a_processed_delivery_does_not_become_an_exception_when_it_comes_again(runtime, store):
    ids = await store(b"poison")
    await apply_deliveries(runtime, ids, Counter())
    assert await apply_deliveries(runtime, ids, Counter(InvalidInput("late"))) == 0
    assert [row.state for row in await rows_of(runtime)] == ["processed"]


async def test_an_exception_that_is_applied_later_loses_its_cause(runtime, store):
    ids = await store(b"poison")
    await apply_deliveries(runtime, ids, Counter(InvalidInput("not yet understood")))
    assert await apply_deliveries(runtime, ids, Counter()) == 1
    assert [(row.state, row.cause) for row in await rows_of(runtime)] == [("processed", None)]
