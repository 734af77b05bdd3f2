"""What the receiver tells a real Kafka, and what happens when Kafka is late or gone."""

import asyncio
import socket
import subprocess
import time

import httpx
import orjson
from aiokafka import AIOKafkaConsumer

from local_stack.embedded_kafka import KafkaPlace, command, make_ready
from local_stack.topics import broker_answers, ensure_topics
from local_stack.waiting import wait_for
from tests.integration.callback_receiver.test_receiver import metric, rows_of
from vault_core.errors import InvalidInput
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE
from vault_core.inbox.envelope import event_id_of


def messages_of(bootstrap: str, purpose: str, wanted: set) -> list:
    """The messages about the deliveries `wanted` on the topic of `purpose`."""

    async def consume() -> list:
        found = []
        async with AIOKafkaConsumer(
            TOPIC_OF_PURPOSE[purpose], bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None
        ) as consumer:
            while len(found) < len(wanted):
                message = await consumer.getone()
                if _id_or_none(message.value) in wanted:
                    found.append(message)
        return found

    return asyncio.run(asyncio.wait_for(consume(), 60))


def _id_or_none(value: bytes):
    try:
        return event_id_of(value)
    except InvalidInput:
        return None


def ids_of(url: str, purpose: str) -> set:
    return {row.id for row in rows_of(url) if row.purpose == purpose}


def test_each_delivery_is_published_to_its_topic_with_its_id_and_its_body_as_received(
    start_receiver, tokens, inbox_url, kafka_bootstrap
):
    receiver = start_receiver(inbox_url, kafka=kafka_bootstrap)
    with httpx.Client(timeout=30) as client:
        for n in range(40):
            answer = client.post(f"{receiver.url}/i/{tokens['c2b_confirmation']}", content=b'{"n": %d}' % n)
            assert answer.status_code == 200
        client.post(f"{receiver.url}/i/{tokens['b2c_result']}/77", content=b"\xff")
    confirmations = messages_of(kafka_bootstrap, "c2b_confirmation", ids_of(inbox_url, "c2b_confirmation"))
    (result,) = messages_of(kafka_bootstrap, "b2c_result", ids_of(inbox_url, "b2c_result"))
    assert len({event_id_of(message.value) for message in confirmations}) == 40
    assert sorted(orjson.loads(orjson.loads(message.value)["body"])["n"] for message in confirmations) == list(range(40))
    assert (result.key, orjson.loads(result.value)["body_base64"]) == (b"77", "/w==")


def test_deliveries_are_acknowledged_while_kafka_is_away_and_published_when_it_comes(
    start_receiver, tokens, inbox_url, tmp_path, kafka_jars
):
    place = KafkaPlace(tmp_path / "late", kafka_jars, *_free_ports())
    receiver = start_receiver(inbox_url, kafka=place.bootstrap)
    with httpx.Client(timeout=30) as client:
        answers = [client.post(f"{receiver.url}/i/{tokens['b2c_result']}", content=b"{}") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    make_ready(place)
    with (tmp_path / "kafka.log").open("wb") as log:
        broker = subprocess.Popen(command(place), stdout=log, stderr=log)
    try:
        wait_for(lambda: broker_answers(place.bootstrap), seconds=60, what="Kafka")
        ensure_topics(place.bootstrap)
        assert len(messages_of(place.bootstrap, "b2c_result", ids_of(inbox_url, "b2c_result"))) == 5
    finally:
        broker.kill()
        broker.wait(20)


def test_what_does_not_fit_the_queue_is_counted_and_left_to_the_sweep(start_receiver, tokens, inbox_url):
    receiver = start_receiver(inbox_url, VAULT_RECEIVER_PUBLISH_QUEUE="2")
    with httpx.Client(timeout=30) as client:
        for _ in range(5):
            assert client.post(f"{receiver.url}/i/{tokens['b2c_result']}", content=b"{}").status_code == 200
    deadline = time.monotonic() + 10
    while metric(receiver.url, "vault_receiver_publish_failures_total") != 3:
        assert time.monotonic() < deadline
    assert metric(receiver.url, "vault_receiver_publish_queue") == 2
    assert {row.state for row in rows_of(inbox_url)} == {"stored"}


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
