"""What Mifos X says has happened: hints that make us read."""

from collections.abc import Sequence
from uuid import UUID

import faust

from vault_core.collections.core_payments import handle_payment_hooks
from vault_core.disbursements.hooks import handle_mifos_events
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, WITHIN_SECONDS

TOPIC = "mifos.events"


async def handle_hooks(runtime: Runtime, connections: Connections, ids: Sequence[UUID]) -> None:
    """Those about payments, then all the others: the two capabilities do not know each other."""
    await handle_mifos_events(runtime, connections, await handle_payment_hooks(runtime, connections, ids))


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def mifos_events(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_hooks)

    app.agent(raw_topic(app, TOPIC), name="mifos_events", concurrency=1)(mifos_events)
