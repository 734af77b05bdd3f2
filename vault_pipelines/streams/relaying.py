"""Publishing what PostgreSQL says is due: calls of the outbox, and deliveries that were stored and not processed."""

import asyncio

import structlog

from vault_core.fault_points import reach
from vault_core.inbox.sweeping import take_unprocessed
from vault_core.outbox.calls import offer_again, take_due_for_relay
from vault_core.outbox.message import encode_call_message
from vault_pipelines.streams.edge import Edge, Produce, cause_of

log = structlog.get_logger(__name__)

_AT_ONCE = 500


async def relay_calls(edge: Edge, produce: Produce) -> int:
    """Publishes the calls that are due; returns how many. What Kafka does not take is due again at once."""
    due = await take_due_for_relay(edge.runtime, _AT_ONCE)
    sent = await asyncio.gather(
        *(_publish(produce, topic, key, encode_call_message(call_id)) for call_id, topic, key in due),
        return_exceptions=True,
    )
    failed = [(call_id, error) for (call_id, _, _), error in zip(due, sent, strict=True) if error is not None]
    if failed:
        log.warning("calls not published", calls=len(failed), cause=cause_of(failed[0][1]))
        await offer_again(edge.runtime, [call_id for call_id, _ in failed])
    return len(due) - len(failed)


async def sweep_inbox(edge: Edge, produce: Produce) -> int:
    """Publishes again the deliveries that are stored and unprocessed for too long; returns how many."""
    due = await take_unprocessed(edge.runtime, _AT_ONCE)
    sent = await asyncio.gather(
        *(_publish(produce, message.topic, message.key, message.value) for message in due), return_exceptions=True
    )
    failed = [error for error in sent if error is not None]
    if due:
        log.info("deliveries published again", deliveries=len(due) - len(failed))
    if failed:
        log.warning("deliveries not published again", deliveries=len(failed), cause=cause_of(failed[0]))
    return len(due) - len(failed)


async def _publish(produce: Produce, topic: str, key: str, value: bytes) -> None:
    reach("before publish", topic)
    await produce(topic, key.encode(), value, {})
    reach("after publish", topic)
