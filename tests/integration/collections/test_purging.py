"""Answers of feeds go by age, but not what a payment rests on, and the application can delete nothing else."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.integration.collections.feeds import TELL, paid
from vault_core.clients.daraja_pull import PullAnswer, PullQuestion, classify_pull
from vault_core.clients.http_exchange import Answer
from vault_core.collections.pull_answers import keep_answer
from vault_core.collections.purging import purge_feed_answers

EMPTY = b'{"ResponseCode": "1001", "Response": [[]]}'
UNREADABLE = b'{"ResponseCode": "1000", "Response": [[{"transactionId": "ODD0000001"}]]}'
VALIDATED = """
    INSERT INTO payment_validations (event_id, late, partner_id, at, decision, known, code, reason, short_code, receipt)
    SELECT uuidv7(), false, id, :at, 'accepted', false, '0', 'not known', '600100', :receipt FROM partners
"""


async def answered(umoja, body):
    now = umoja.runtime.clock.now()
    question = PullQuestion("600100", now - timedelta(hours=1), now)
    return await keep_answer(
        umoja.runtime, umoja.partner.id, question, PullAnswer(classify_pull(Answer(200, {}, body)), 200, body)
    )


async def validated(umoja, receipt):
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text(VALIDATED), {"at": umoja.runtime.clock.now(), "receipt": receipt})


async def kept(umoja):
    answers = await umoja.rows("SELECT id FROM pull_answers")
    return {row.id for row in answers}, {row.receipt for row in await umoja.rows("SELECT receipt FROM payment_validations")}


async def test_what_is_old_and_no_evidence_goes_and_the_rest_stays(umoja):
    clock = umoja.runtime.clock
    clock.pass_time(days=-200)
    await TELL["pull"](umoja, paid("FIRST00001", clock.now()))
    await TELL["c2b"](umoja, paid("TOLD000001", clock.now()))
    await TELL["pull"](umoja, paid("TOLD000001", clock.now()))
    evidence = {row.id for row in await umoja.rows("SELECT id FROM pull_answers")}
    await answered(umoja, EMPTY)
    await TELL["pull"](umoja, paid("TOLD000001", clock.now()))  # pulled before: this answer is evidence of nothing
    unread = await answered(umoja, UNREADABLE)
    await validated(umoja, "FIRST00001")
    await validated(umoja, "REFUSED001")
    clock.pass_time(days=190)
    young = await answered(umoja, EMPTY)
    await validated(umoja, "YOUNG00001")
    assert await purge_feed_answers(umoja.runtime) == 2 + 1
    assert await purge_feed_answers(umoja.runtime) == 0
    assert await kept(umoja) == ({*evidence, unread, young}, {"FIRST00001", "YOUNG00001"})


async def test_the_application_deletes_nothing_by_itself_and_nothing_of_the_last_week_by_the_function(umoja, owner_url):
    from vault_core.database import open_owner_engine

    await answered(umoja, EMPTY)
    await validated(umoja, "RECENT0001")
    owner = open_owner_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE pull_answers SET answered_at = now() - interval '6 days'"))
        connection.execute(text("UPDATE payment_validations SET at = now() - interval '6 days'"))
    owner.dispose()
    async with umoja.runtime.engine.begin() as connection:
        assert (await connection.execute(text("SELECT purge_feed_answers(now() + interval '1 year', 100)"))).scalar_one() == 0
    for table in ("pull_answers", "payment_validations"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with umoja.runtime.engine.begin() as connection:
                await connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - named above
