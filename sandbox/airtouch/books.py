"""What the SMS gateway holds: its users and every message it sent."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message that went out to one phone."""

    sms_id: str
    phone: str
    sender: str
    text: str
    parts: int
    at: datetime


@dataclass(slots=True)
class SmsUser:
    """A customer of the gateway. `balance_cents` pays for messages; None never runs out."""

    user: str
    api_key: str
    senders: frozenset[str]
    price_cents: int = 80
    balance_cents: int | None = None
    messages: list[SentMessage] = field(default_factory=list)


@dataclass(slots=True)
class SmsBooks:
    """All users."""

    seed: int
    users: dict[str, SmsUser] = field(default_factory=dict)
