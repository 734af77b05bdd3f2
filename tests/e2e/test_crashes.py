"""Under load, with kill -9 on one part after another: no acknowledged callback is lost and none is applied twice."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import httpx
import pytest
from sqlalchemy import Engine, create_engine, text

from local_stack.waiting import wait_for
from tests.integration.callback_receiver.conftest import add_partner_with_tokens
from tests.private_stack import DAGSTER, PrivateStack, start_private_stack
from vault_core.inbox.delivery import sealed_body_binding
from vault_core.settings import read_settings

SENDERS = 12


@pytest.fixture(scope="module")
def stack() -> Iterator[PrivateStack]:
    """The stack with a sweep that does not let a test wait, and calls to a Mifos X that is not there made once."""
    with start_private_stack(
        without=DAGSTER, VAULT_INBOX_SWEEP_AFTER="3", VAULT_OUTBOX_RETRY_BASE="3600", VAULT_STREAM_WORKERS="2"
    ) as running:
        yield running


@dataclass
class Load:
    """M-Pesa as it would be if it sent again whatever was not acknowledged, and now and then what was."""

    url: str
    acknowledged: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    unanswered: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def wait_for_more(self, count: int) -> None:
        """Returns once `count` more callbacks are acknowledged than now."""
        target = self.acknowledged.total() + count
        wait_for(lambda: self.acknowledged.total() >= target, seconds=60, what=f"{count} more acknowledgements")

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            await asyncio.gather(*(self._send(client, random.Random(number), number) for number in range(SENDERS)))

    async def _send(self, client: httpx.AsyncClient, chance: random.Random, number: int) -> None:
        count = 0
        while not self.stopping.is_set():
            count += 1
            receipt = f"T{number:02d}{count:07d}"
            while not await self._post(client, receipt) and not self.stopping.is_set():  # noqa: ASYNC110 - it asks a server
                await asyncio.sleep(0.1)
            if chance.random() < 0.1:
                await self._post(client, receipt)

    async def _post(self, client: httpx.AsyncClient, receipt: str) -> bool:
        self.sent += 1
        try:
            answer = await client.post(self.url, content=json.dumps(confirmation(receipt)).encode())
        except httpx.TransportError:
            self.unanswered += 1
            return False
        if answer.status_code == 200:
            self.acknowledged[receipt] += 1
        return answer.status_code == 200


def confirmation(receipt: str) -> dict[str, str]:
    return {
        "TransactionType": "Pay Bill",
        "TransID": receipt,
        "TransTime": "20261124093000",
        "TransAmount": "150.00",
        "BusinessShortCode": "600002",
        "BillRefNumber": "000000042",
        "OrgAccountBalance": "49197.00",
        "MSISDN": "2547 ***** 126",
        "FirstName": "JANE",
    }


def one(engine: Engine, statement: str) -> int:
    with engine.connect() as connection:
        found: int = connection.execute(text(statement)).scalar_one()
        return found


@pytest.mark.timeout(420)
def test_killing_receiver_worker_and_kafka_under_load_loses_nothing_and_applies_nothing_twice(stack: PrivateStack):
    settings = read_settings(stack.environment)
    tokens = add_partner_with_tokens(settings.database_url, settings.sealer)
    engine = create_engine(settings.database_url)
    with Load(f"{stack.receiver_url}/i/{tokens['c2b_confirmation']}") as load:
        load.wait_for_more(300)

        pid = stack.kill("receiver")
        stack.wait_until_serving("receiver", other_than=pid)
        load.wait_for_more(300)
        assert load.unanswered > 0

        stack.kill_children("receiver")
        load.wait_for_more(300)

        pid = stack.kill("worker-1")
        load.wait_for_more(300)
        stack.wait_until_serving("worker-1", other_than=pid)

        pid = stack.kill("kafka")
        load.wait_for_more(300)  # acknowledged with or without Kafka
        stack.wait_until_serving("kafka", other_than=pid)
        load.wait_for_more(300)

    wait_for(
        lambda: one(engine, "SELECT count(*) FROM inbound_events WHERE state = 'stored'") == 0,
        seconds=120,
        what="every stored callback to be applied",
    )
    receipts = set(load.acknowledged)
    with engine.connect() as connection:
        events = connection.execute(text("SELECT id, state, cause, effect, body_sealed FROM inbound_events")).all()
        collections = Counter(connection.execute(text("SELECT receipt FROM collections")).scalars())
        booked = Counter(
            connection.execute(text("SELECT reference FROM ledger_transactions WHERE kind = 'collection'")).scalars()
        )
    engine.dispose()
    bodies = [settings.sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)) for row in events]
    stored = Counter(json.loads(body)["TransID"] for body in bodies)

    assert {row.state for row in events} == {"processed"}, [row.cause for row in events if row.cause][:3]
    assert all(stored[receipt] >= times for receipt, times in load.acknowledged.items()), "an acknowledged callback is lost"
    assert sum(stored.values()) > len(stored), "nothing came twice: the test did not test repeats"
    assert set(collections) == set(stored) >= receipts
    assert set(collections.values()) == {1}, "a callback was applied twice"
    assert booked == collections, "a payment was booked twice or not at all"
