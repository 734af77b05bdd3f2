"""The Kafka message of a delivery: the event's id and the body as received, so that other consumers can use the topics too.

`{"event_id", "partner_id", "purpose", "received_at", "body"}`; `body_base64` instead of `body` where the bytes are not UTF-8.
"""

import base64
from datetime import datetime
from uuid import UUID

import orjson

from vault_core.errors import InvalidInput


def encode_envelope(event_id: UUID, partner_id: UUID, purpose: str, received_at: datetime, body: bytes) -> bytes:
    """The message value for one delivery."""
    message: dict[str, object] = {
        "event_id": event_id,
        "partner_id": partner_id,
        "purpose": purpose,
        "received_at": received_at,
    }
    try:
        message["body"] = body.decode()
    except UnicodeDecodeError:
        message["body_base64"] = base64.b64encode(body).decode()
    return orjson.dumps(message)


def event_id_of(value: bytes) -> UUID:
    """The event id in a message value. Raises InvalidInput for anything that `encode_envelope` did not write."""
    try:
        return UUID(orjson.loads(value)["event_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("a Kafka message without a readable event_id: it did not come from the receiver") from error
