"""Results of B2C payments."""

import faust

from vault_core.disbursements.results import handle_b2c_results
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, WITHIN_SECONDS

TOPIC = "mpesa.b2c.results"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def b2c_results(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_b2c_results)

    app.agent(raw_topic(app, TOPIC), name="b2c_results", concurrency=1)(b2c_results)
