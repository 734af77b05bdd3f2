"""Deliveries that no service acts on: kept, and marked so, lest they look forgotten."""

from collections.abc import Sequence
from uuid import UUID

import faust
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.inbox.applying import Effects, apply_deliveries
from vault_core.inbox.delivery import Delivery
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, SELDOM_WITHIN_SECONDS

TOPICS = ("mpesa.c2b.validations", "sms.delivery-reports")
EFFECT = "recorded, not used yet"


async def record_deliveries(runtime: Runtime, _connections: Connections, ids: Sequence[UUID]) -> None:
    """Marks the deliveries as processed without any other effect."""

    async def apply(_connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Effects:
        return {delivery.id: EFFECT for delivery in deliveries}

    await apply_deliveries(runtime, ids, apply)


def register(app: faust.App, edge: Edge) -> None:
    """Adds one agent a topic to `app`."""
    for topic in TOPICS:
        _register(app, edge, topic)


def _register(app: faust.App, edge: Edge, topic: str) -> None:
    async def recorder(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=SELDOM_WITHIN_SECONDS):
            await edge.apply(topic, batch, record_deliveries)

    app.agent(raw_topic(app, topic), name=f"recorder_{topic}", concurrency=1)(recorder)
