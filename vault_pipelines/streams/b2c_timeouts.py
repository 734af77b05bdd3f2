"""Queue time-outs of B2C payments: no verdict, a reason to ask."""

import faust

from vault_core.disbursements.results import handle_b2c_timeouts
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, SELDOM_WITHIN_SECONDS

TOPIC = "mpesa.b2c.timeouts"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def b2c_timeouts(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=SELDOM_WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_b2c_timeouts)

    app.agent(raw_topic(app, TOPIC), name="b2c_timeouts", concurrency=1)(b2c_timeouts)
