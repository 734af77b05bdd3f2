"""A call that is not its worker's any more, because a person began it anew or its lease ran out: only its holder ends it."""

from uuid import UUID, uuid4

import pytest

from vault_core.database import in_transaction
from vault_core.outbox.calls import (
    MIFOS_TOPIC,
    Again,
    Call,
    Done,
    NewCall,
    begin_anew,
    claim_calls,
    record_failure,
    record_results,
    write_calls,
)


async def _claimed(day, subject: UUID) -> list[Call]:
    ids = [row["id"] for row in await day.rows("SELECT id FROM outbox WHERE subject = :subject", subject=str(subject))]
    return await claim_calls(day.runtime, ids)


@pytest.mark.parametrize("result", [Done(), Again("Mifos X did not answer")])
async def test_how_the_old_claim_went_does_not_end_the_call_that_a_person_began_anew(open_day, result) -> None:
    async with open_day([]) as day:
        runtime, subject = day.runtime, uuid4()
        call = NewCall(day.partner.id, MIFOS_TOPIC, "collection.post", subject, ordering_key="1")
        await in_transaction(runtime.engine, lambda c: write_calls(c, runtime.clock, runtime.new_id, [call]))
        (old,) = await _claimed(day, subject)
        await in_transaction(runtime.engine, lambda c: begin_anew(c, runtime.clock, "collection.post", [subject]))
        await in_transaction(runtime.engine, lambda c: record_results(c, runtime, {old: result}))
        (again,) = await _claimed(day, subject)
        assert (again.id, again.tries) == (old.id, 1)
        await in_transaction(runtime.engine, lambda c: record_results(c, runtime, {again: Done()}))
        assert await _claimed(day, subject) == []


@pytest.mark.parametrize("result", [Done(), Again("Mifos X did not answer")])
async def test_a_worker_whose_lease_ran_out_does_not_say_how_the_call_of_the_next_one_went(open_day, result) -> None:
    async with open_day([]) as day:
        runtime, subject = day.runtime, uuid4()
        call = NewCall(day.partner.id, MIFOS_TOPIC, "collection.post", subject, ordering_key="1")
        await in_transaction(runtime.engine, lambda c: write_calls(c, runtime.clock, runtime.new_id, [call]))
        (slow,) = await _claimed(day, subject)
        day.clock.pass_time(seconds=runtime.pace.outbox_lease)
        (holder,) = await _claimed(day, subject)
        await in_transaction(runtime.engine, lambda c: record_results(c, runtime, {slow: result}))
        assert await record_failure(runtime, [slow], "its database went away") == []
        (row,) = await day.rows("SELECT state, tries, lease_until, last_cause FROM outbox")
        assert row == {"state": "pending", "tries": 2, "lease_until": holder.lease_until, "last_cause": None}
        await in_transaction(runtime.engine, lambda c: record_results(c, runtime, {holder: Done()}))
        (row,) = await day.rows("SELECT state FROM outbox")
        assert row == {"state": "done"}
