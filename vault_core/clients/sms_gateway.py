"""What every SMS gateway can do for us."""

from dataclasses import dataclass, field
from typing import Protocol

from vault_core.outcome import Outcome


@dataclass(frozen=True, slots=True)
class SmsOut:
    """One text to one number. `reference` is our message id."""

    reference: str
    phone: str = field(repr=False)
    text: str = field(repr=False)
    sender: str


@dataclass(frozen=True, slots=True)
class SmsAck:
    """The gateway took the message; `gateway_reference` is its own id, when it gives one."""

    gateway_reference: str | None


class SmsGateway(Protocol):
    """A gateway that sends texts."""

    async def send(self, message: SmsOut) -> Outcome[SmsAck]:
        """Hands the message over. After a time-out the outcome is Unknown: the gateway may have it."""
        ...
