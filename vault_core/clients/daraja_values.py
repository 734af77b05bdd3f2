"""The values the Daraja client takes and gives."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import mask_phone

TokenFetch = Callable[[], Awaitable[tuple[str, timedelta]]]


@dataclass(frozen=True, slots=True)
class DarajaLogin:
    """Where M-Pesa is and who we are there. `url` is the host only, such as https://api.safaricom.co.ke."""

    url: str
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    initiator: str
    security_credential: str = field(repr=False)
    passkey: str | None = field(default=None, repr=False)  # of the pay bill's STK push, where there is one


class TokenStore(Protocol):
    """Keeps the one access token that all workers share: a new token may kill the old one (reference/daraja.md section 1)."""

    async def token(self, fetch: TokenFetch, *, refused: str | None = None) -> str:
        """A live token; taken with `fetch` when there is none, it ran out, or it is `refused`, the one just turned away."""
        ...


@dataclass(frozen=True, slots=True)
class B2CInstruction:
    """One payout. Its id is committed before the first send and never reused for another payout.

    `resend` says that an earlier send of this id ended Unknown; then only an acknowledgement is a verdict and everything else
    is Unknown. Raises InvalidInput for cents, for less than a shilling and for a number not in the written form of phones.py.
    """

    originator_conversation_id: str
    amount: Money
    phone: str = field(repr=False)
    short_code: str
    command: str
    remarks: str
    occasion: str
    result_url: str
    timeout_url: str
    resend: bool = False

    def __post_init__(self) -> None:
        self.amount.whole_shillings_text()
        if self.amount <= Money(0):
            raise InvalidInput(f"a payout of {self.amount}: the amount must be above zero")
        if not re.fullmatch(r"254[17][0-9]{8}", self.phone):
            raise InvalidInput(f"payout to {mask_phone(self.phone)}: M-Pesa takes 12 digits, 2547.. or 2541..")
        if not self.originator_conversation_id:
            raise InvalidInput("a payout without an id of ours could be paid twice")


@dataclass(frozen=True, slots=True)
class B2CAck:
    """M-Pesa has queued the payout. It says nothing about payment."""

    conversation_id: str
    originator_conversation_id: str


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """Asks what became of the payout with this originator conversation id; the answer comes to `result_url`."""

    originator_conversation_id: str
    short_code: str
    result_url: str
    timeout_url: str
    occasion: str


@dataclass(frozen=True, slots=True)
class BalanceQuestion:
    """Asks for the balances of a short code; the answer comes to `result_url`."""

    short_code: str
    result_url: str
    timeout_url: str


@dataclass(frozen=True, slots=True)
class QueryAck:
    """M-Pesa has queued the question. Both ids are the question's own, not the payout's."""

    conversation_id: str
    originator_conversation_id: str
