"""M-Pesa's Daraja interface: payouts, status questions, C2B registration (reference/daraja.md)."""

import httpx

from vault_core.clients.daraja_values import (
    B2CAck,
    B2CInstruction,
    DarajaLogin,
    QueryAck,
    StatusQuestion,
    TokenFetch,
    TokenStore,
)
from vault_core.outcome import Outcome

__all__ = ["B2CAck", "B2CInstruction", "DarajaClient", "DarajaLogin", "QueryAck", "StatusQuestion", "TokenFetch", "TokenStore"]


class DarajaClient:
    """One partner's M-Pesa. Every call is sent at most twice: again only after the token was turned away."""

    def __init__(self, login: DarajaLogin, http: httpx.AsyncClient, tokens: TokenStore, *, timeout: float = 30.0) -> None:
        self._login = login
        self._http = http
        self._tokens = tokens
        self._timeout = timeout

    async def pay(self, instruction: B2CInstruction) -> Outcome[B2CAck]:
        """Sends one payout."""
        raise NotImplementedError

    async def query_status(self, question: StatusQuestion) -> Outcome[QueryAck]:
        """Asks what became of a payout."""
        raise NotImplementedError

    async def register_c2b_urls(
        self, short_code: str, confirmation_url: str, validation_url: str, response_type: str = "Completed"
    ) -> Outcome[None]:
        """Registers where payments to a short code are told."""
        raise NotImplementedError
