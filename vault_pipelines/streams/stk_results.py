"""What became of prompts to pay."""

import faust

from vault_core.collections.stk_results import handle_stk_results
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, WITHIN_SECONDS

TOPIC = "mpesa.stk.results"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def stk_results(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_stk_results)

    app.agent(raw_topic(app, TOPIC), name="stk_results", concurrency=1)(stk_results)
