"""The Kafka message of an outbox call: only its id. What to do is in the row, which may have moved on since."""

from uuid import UUID

import orjson

from vault_core.errors import InvalidInput


def encode_call_message(call_id: UUID) -> bytes:
    """The message value for one call."""
    return orjson.dumps({"call_id": str(call_id)})


def call_id_of(value: bytes) -> UUID:
    """The call id in a message value. Raises InvalidInput for anything that `encode_call_message` did not write."""
    try:
        return UUID(orjson.loads(value)["call_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("a Kafka message without a readable call_id: it did not come from the outbox relay") from error
