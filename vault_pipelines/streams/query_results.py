"""Answers to Transaction Status questions."""

import faust

from vault_core.query_answers import handle_query_results
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import DELIVERIES_AT_ONCE, SELDOM_WITHIN_SECONDS

TOPIC = "mpesa.query.results"


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def query_results(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(DELIVERIES_AT_ONCE, within=SELDOM_WITHIN_SECONDS):
            await edge.apply(TOPIC, batch, handle_query_results)

    app.agent(raw_topic(app, TOPIC), name="query_results", concurrency=1)(query_results)
