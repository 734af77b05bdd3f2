"""Payments of customers to pay bills."""

import faust

from vault_core.collections.confirmations import handle_confirmations
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, WITHIN_SECONDS

TOPIC = "mpesa.c2b.confirmations"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def c2b_confirmations(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(2 * DELIVERIES_AT_ONCE, within=WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_confirmations, together=DELIVERIES_AT_ONCE)

    app.agent(raw_topic(app, TOPIC), name="c2b_confirmations", concurrency=1)(c2b_confirmations)
