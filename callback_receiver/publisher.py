"""Telling Kafka what is stored. Nothing depends on it being told: what Kafka did not take, the sweep publishes later."""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from callback_receiver.metrics import Metrics
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE
from vault_core.inbox.envelope import encode_envelope
from vault_core.inbox.receiving import Arrival

log = structlog.get_logger(__name__)

_AT_ONCE = 1000
_GATHER = 0.025  # what a message may wait for company, in seconds: a broker's work is by the request, not by the message
_BATCH_BYTES = 512 * 1024
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 5.0
_REQUEST_TIMEOUT_MS = 10_000
_SEND_WITHIN = 30.0


class Publisher:
    """Sends stored deliveries to their topics in the background, connecting when it can."""

    def __init__(self, bootstrap: str, metrics: Metrics, *, most: int) -> None:
        self._bootstrap = bootstrap
        self._metrics = metrics
        self._most = most
        self._queue: deque[Arrival] = deque()
        self._offered = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._connected = False
        self._turn = 0

    def offer(self, arrivals: Sequence[Arrival]) -> None:
        """Queues stored deliveries; what does not fit is left to the sweep. Never blocks, never fails."""
        room = max(0, self._most - len(self._queue))
        self._queue.extend(arrivals[:room])
        if len(arrivals) > room:
            self._metrics.publish_failures.inc(len(arrivals) - room)
        self._metrics.publish_queue.set(len(self._queue))
        self._idle.clear()
        self._offered.set()

    async def run(self) -> None:
        """Publishes until cancelled, through any number of Kafka outages."""
        wait = _FIRST_WAIT
        while True:
            await self._offered.wait()
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                max_batch_size=_BATCH_BYTES,
            )
            try:
                await producer.start()
                wait = _FIRST_WAIT
                self._connected = True
                await self._publish(producer)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("Kafka does not take messages", error=type(error).__name__, queued=len(self._queue))
            finally:
                self._connected = False
                await _stop(producer)
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, wait * 2)

    async def drain(self, within: float) -> None:
        """Waits until the queue is empty, at most `within` seconds, while Kafka is there; the sweep has the rest."""
        try:
            await asyncio.wait_for(self._idle.wait(), within if self._connected else 0.0)
        except TimeoutError:
            log.warning("stopped with messages unpublished; the sweep publishes them", queued=len(self._queue))

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        """Sends group after group; raises when one fails, so that a new producer is made."""
        while True:
            if not self._queue:
                self._idle.set()
                self._offered.clear()
                await self._offered.wait()
            if len(self._queue) < _AT_ONCE:
                await asyncio.sleep(_GATHER)
            group = [self._queue.popleft() for _ in range(min(_AT_ONCE, len(self._queue)))]
            self._metrics.publish_queue.set(len(self._queue))
            try:
                async with asyncio.timeout(_SEND_WITHIN):
                    await self._send(producer, group)
            except (KafkaError, OSError, TimeoutError):
                self._metrics.publish_failures.inc(len(group))
                raise
            self._metrics.published.inc(len(group))

    async def _send(self, producer: AIOKafkaProducer, group: list[Arrival]) -> None:
        """Sends `group` in as few batches as fit, and returns when all are on the broker.

        A batch goes to one partition, the next to the next: no order between deliveries is promised or needed, and a broker
        takes one large batch far more cheaply than many small ones.
        """
        sent = []
        for topic, arrivals in itertools.groupby(sorted(group, key=_topic_of), key=_topic_of):
            partitions = sorted(await producer.partitions_for(topic))
            for batch in _batches(producer, arrivals):
                self._turn += 1
                partition = partitions[self._turn % len(partitions)]
                sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)


def _batches(producer: AIOKafkaProducer, arrivals: Iterable[Arrival]) -> Iterator[BatchBuilder]:
    batch = producer.create_batch()
    for arrival in arrivals:
        key = (arrival.path_reference or arrival.id.hex).encode()
        value = encode_envelope(arrival.id, arrival.partner_id, arrival.purpose, arrival.received_at, arrival.body)
        timestamp = int(arrival.received_at.timestamp() * 1000)
        while batch.append(timestamp=timestamp, key=key, value=value) is None:
            yield batch
            batch = producer.create_batch()
    yield batch


def _topic_of(arrival: Arrival) -> str:
    return TOPIC_OF_PURPOSE[arrival.purpose]


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), 5.0)
    except (KafkaError, OSError, TimeoutError) as error:
        log.debug("the Kafka producer did not stop cleanly", error=type(error).__name__)
