"""Creates Kafka's topics ahead: the broker makes none by itself."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from vault_core.errors import ConfigurationError, Unreachable
from vault_core.topics import TOPICS, Topic

_TIMEOUT_MS = 10_000
_PROBE_TIMEOUT_MS = 2_000
_HOUR_MS = 3_600_000


def ensure_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> None:
    """Makes the topics that are missing, with as many replicas as the cluster has brokers, three at most. Idempotent.

    A topic that is there is left as it is. Raises Unreachable, or ConfigurationError when the cluster refuses one.
    """
    asyncio.run(_ensure_topics(bootstrap, topics))


def broker_answers(bootstrap: str) -> bool:
    """Whether a broker tells about itself at `bootstrap`."""
    if not _listens(bootstrap.split(",", 1)[0]):
        return False
    try:
        asyncio.run(_list_topics(bootstrap))
    except (KafkaError, OSError, TimeoutError):
        return False
    return True


def group_members(bootstrap: str, group: str) -> list[str]:
    """The names of the consumers in `group`: the instance id of a static member, else its client id. Empty if there are none."""
    try:
        return asyncio.run(_group_members(bootstrap, group))
    except (KafkaError, OSError, TimeoutError):
        return []


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_MS / 1000).close()
    except (OSError, ValueError):
        return False
    return True


async def _ensure_topics(bootstrap: str, topics: Sequence[Topic]) -> None:
    try:
        async with _admin(bootstrap, _TIMEOUT_MS) as admin:
            there = set(await admin.list_topics())
            cluster = await admin.describe_cluster()
            replicas = min(3, len(cluster["brokers"]))
            missing = [topic for topic in topics if topic.name not in there]
            if missing:
                answer = await admin.create_topics([_new_topic(topic, replicas) for topic in missing])
                _require_made(answer.topic_errors)
    except (KafkaError, OSError) as error:
        raise Unreachable(f"Kafka at {bootstrap} did not let its topics be made: {error!r}") from error


def _require_made(topic_errors: Sequence[tuple[object, ...]]) -> None:
    for name, code, *message in topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise ConfigurationError(f"Kafka refused to make topic {name}: {kind.__name__} {message[0] if message else ''}")


def _new_topic(topic: Topic, replicas: int) -> NewTopic:
    settings = {"retention.ms": str(topic.retention_hours * _HOUR_MS)}
    return NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=replicas, topic_configs=settings)


async def _list_topics(bootstrap: str) -> None:
    async with _admin(bootstrap, _PROBE_TIMEOUT_MS) as admin:
        await admin.list_topics()


async def _group_members(bootstrap: str, group: str) -> list[str]:
    async with _admin(bootstrap, _PROBE_TIMEOUT_MS) as admin:
        answers = await admin.describe_consumer_groups([group])
    return [member[0] for answer in answers for found in answer.groups for member in found[5]]


@contextlib.asynccontextmanager
async def _admin(bootstrap: str, timeout_ms: int) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=timeout_ms)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
