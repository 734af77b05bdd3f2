"""Loans of several lenders that their hooks told of together: none waits for another lender's M-Pesa."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from benchmarks.parts.lenders import APPROVED, lenders, take_in
from vault_core.disbursements import sending
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.detection import poll_due
from vault_core.partners.connections import Connections


async def test_the_sends_of_two_lenders_are_under_way_at_once_and_the_failure_of_one_ends_not_the_other(
    runtime, sandbox, monkeypatch
):
    partners = await take_in(runtime, sandbox, lenders(2), [(1, APPROVED)], {})
    connections = Connections(runtime)
    await poll_due(runtime, connections)
    async with runtime.engine.connect() as connection:
        ready: list[UUID] = list((await connection.execute(text("SELECT id FROM disbursements"))).scalars())
    both, ended = asyncio.Barrier(2), []

    async def send(_runtime, _connections, partner_id: UUID, which: Selection, _report) -> None:
        await both.wait()
        if partner_id == min(partner.id for partner in partners):
            raise ConnectionError("M-Pesa is away")
        await asyncio.sleep(0)
        ended.append(which.ids)

    monkeypatch.setattr(sending._Sender, "send", send)
    with pytest.raises(ConnectionError, match="M-Pesa is away"):
        await asyncio.wait_for(sending.send_ready(runtime, connections, ready), 10)
    assert [len(ids) for ids in ended] == [1]
    await connections.aclose()
