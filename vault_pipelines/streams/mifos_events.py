"""What Mifos X says has happened: hints that make us read."""

import faust

from vault_core.disbursements.hooks import handle_mifos_events
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, WITHIN_SECONDS

TOPIC = "mifos.events"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def mifos_events(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_mifos_events)

    app.agent(raw_topic(app, TOPIC), name="mifos_events", concurrency=1)(mifos_events)
