"""A Mifos X that is away uses up no try of a payment, wherever on its way the payment is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from vault_core.errors import Unreachable
from vault_core.postings.mifos_outages import probe_away


@asynccontextmanager
async def away(umoja) -> AsyncIterator[None]:
    async def move(url: str) -> str:
        async with umoja.runtime.engine.begin() as connection:
            former = (await connection.execute(text("SELECT mifos_url FROM partners"))).scalar_one()
            await connection.execute(text("UPDATE partners SET mifos_url = :url"), {"url": url})
        umoja.connections.forget(umoja.partner.id)
        return former

    former = await move("http://127.0.0.1:9/fineract-provider/api/v1")
    yield
    await move(former)


async def wait_for(umoja, hours: int) -> None:
    for _ in range(hours):
        umoja.runtime.clock.pass_time(hours=1)
        await probe_away(umoja.runtime, umoja.connections)
        await umoja.work()


async def tries(umoja) -> set[int]:
    return {row.tries for row in await umoja.rows("SELECT tries FROM outbox WHERE kind = 'collection.post'")}


async def back(umoja) -> None:
    umoja.runtime.clock.pass_time(minutes=1)
    assert await probe_away(umoja.runtime, umoja.connections) == 1
    await umoja.work()
    await umoja.work("message.send")


async def test_payments_that_could_not_be_matched_wait_for_the_server_and_are_posted_then(umoja):
    await umoja.pay("R1", 100_00, "LN-1001")
    await umoja.pay("R2", 200_00, "000000022")
    async with away(umoja):
        await umoja.work()
        await wait_for(umoja, 20)
        assert {row.state for row in await umoja.rows("SELECT state FROM collections")} <= {"matching", "posting"}
        assert [case.kind for case in await umoja.cases()] == ["mifos_away"]
        assert await tries(umoja) == {0}
    await back(umoja)
    assert await umoja.posted_to("loans", 11) == [("R1", 100_00)]
    assert await umoja.posted_to("savings", 22) == [("R2", 200_00)]
    assert await umoja.cases() == []
    assert len(await umoja.texts()) == 2


async def test_a_payment_that_was_matched_before_the_outage_waits_too(umoja):
    await umoja.pay("R1", 100_00, "LN-1001")
    await umoja.control("faults", {"html_answer": {"units": ["loan:11"]}})
    await umoja.work()  # the first write met a page of the gateway: that counts
    async with away(umoja):
        await wait_for(umoja, 20)
        assert (await umoja.collection("R1")).state == "posting"
        assert await tries(umoja) == {1}
    await back(umoja)
    assert await umoja.posted_to("loans", 11) == [("R1", 100_00)]
    assert await umoja.cases() == []


async def test_a_posted_payment_whose_receipt_could_not_be_read_is_texted_after_the_outage(umoja, monkeypatch):
    from vault_core.collections import posting

    async def unread(*_):
        raise Unreachable("away")

    await umoja.pay("R1", 100_00, "LN-1001")
    with monkeypatch.context() as outage:
        outage.setattr(posting, "read_receipt", unread)
        await umoja.work()
    async with away(umoja):
        await wait_for(umoja, 20)
        assert await tries(umoja) == {1}
    await back(umoja)
    assert len(await umoja.texts()) == 1


async def test_answers_of_a_server_that_is_there_use_up_the_tries(umoja):
    await umoja.pay("R1", 100_00, "LN-1001")
    await umoja.control("faults", {"html_answer": {"units": ["loan:11"], "per_unit": 100}})
    await umoja.work()
    await wait_for(umoja, 14)
    assert (await umoja.collection("R1")).state == "needs_review"
    assert [case.kind for case in await umoja.cases()] == ["collection_not_posted"]
