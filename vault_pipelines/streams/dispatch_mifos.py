"""Calls to Mifos X that a transaction decided: disbursements and repayments to post."""

import faust

from vault_core.collections.assigning import UNDO_CALL
from vault_core.collections.posting import post_collections
from vault_core.collections.undoing import undo_postings
from vault_core.disbursements.posting import post_disbursements
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_pipelines.streams.call_flow import CallFlow
from vault_pipelines.streams.edge import CallHandler, Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import CALLS_AT_ONCE, WITHIN_SECONDS

HANDLERS: dict[str, CallHandler] = {
    "disbursement.post": post_disbursements,
    "collection.post": post_collections,
    UNDO_CALL: undo_postings,
}


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""
    flow = CallFlow(edge, MIFOS_TOPIC, HANDLERS)

    async def dispatch_mifos(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(CALLS_AT_ONCE, within=WITHIN_SECONDS):
            await flow.take(batch)

    app.agent(raw_topic(app, MIFOS_TOPIC), name="dispatch_mifos", concurrency=1)(dispatch_mifos)
