import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from vault_core.errors import InvalidInput, Unreachable
from vault_core.outbox.apart import work_apart
from vault_core.outbox.calls import Call

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)


def calls(count):
    return [Call(uuid4(), uuid4(), "kind", uuid4(), 1, last_try=False, lease_until=NOW) for _ in range(count)]


async def test_calls_are_worked_in_chunks():
    seen = []

    async def work(chunk):
        seen.append(len(chunk))

    await work_apart(calls(7), 3, work)
    assert seen == [3, 3, 1]


@pytest.mark.parametrize("fault", [InvalidInput, KeyError, AttributeError, AssertionError, RuntimeError])
async def test_a_call_that_fails_for_good_holds_back_no_other_and_is_raised_at_the_end(fault):
    all_calls = calls(9)
    poison = all_calls[1]
    done = set()

    async def work(chunk):
        if poison in chunk:
            raise fault("poison")
        done.update(chunk)

    with pytest.raises(fault, match="poison"):
        await work_apart(all_calls, 4, work)
    assert done == set(all_calls) - {poison}


async def test_what_may_pass_ends_the_work_at_once():
    tried = []

    async def work(chunk):
        tried.append(chunk)
        raise Unreachable("the database is away")

    with pytest.raises(Unreachable):
        await work_apart(calls(6), 2, work)
    assert len(tried) == 1


async def test_chunks_are_made_side_by_side_as_many_as_told_and_no_more():
    under_way, most = 0, 0

    async def work(_chunk):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    await work_apart(calls(12), 2, work, side_by_side=3)
    assert most == 3
    await work_apart(calls(12), 2, work)
    assert under_way == 0


async def test_what_may_pass_lets_what_is_under_way_end_and_begins_nothing_more():
    begun, ended = [], []

    async def work(chunk):
        begun.append(chunk)
        fails = len(begun) == 1
        await asyncio.sleep(0)
        if fails:
            raise Unreachable("the database is away")
        await asyncio.sleep(0)
        ended.append(chunk)

    with pytest.raises(Unreachable):
        await work_apart(calls(10), 2, work, side_by_side=2)
    assert (len(begun), len(ended)) == (2, 1)
