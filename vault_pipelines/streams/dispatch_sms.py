"""Messages to send."""

import faust

from vault_core.notifications.sending import send_messages
from vault_core.outbox.calls import SMS_TOPIC
from vault_pipelines.streams.edge import CallHandler, Edge
from vault_pipelines.streams.raw_topic import raw_topic
from vault_pipelines.streams.tempo import CALLS_AT_ONCE, WITHIN_SECONDS

HANDLERS: dict[str, CallHandler] = {"message.send": send_messages}


def register(app: faust.App, edge: Edge) -> None:
    """Adds the agent to `app`."""

    async def dispatch_sms(stream: faust.Stream[bytes]) -> None:
        async for batch in stream.take_events(CALLS_AT_ONCE, within=WITHIN_SECONDS):
            await edge.make_calls(SMS_TOPIC, batch, HANDLERS)

    app.agent(raw_topic(app, SMS_TOPIC), name="dispatch_sms", concurrency=1)(dispatch_sms)
