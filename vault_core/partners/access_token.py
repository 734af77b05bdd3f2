"""The OAuth token of a partner's M-Pesa app: one, shared by all processes, refreshed under a lock.

Each new token may end the one before it (reference/daraja.md section 1), so processes with tokens of their own could knock each
other out for ever. The row in `access_tokens` is the token; what a process remembers is only a copy, dropped when refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.fault_points import reach
from vault_core.runtime import Runtime

TokenFetch = Callable[[], Awaitable[tuple[str, timedelta]]]

_LEAST_MARGIN = timedelta(seconds=60)
_MOST_MARGIN = timedelta(minutes=5)
_SERVICE = "mpesa"

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_READ = text("SELECT sealed, expires_at FROM access_tokens WHERE partner_id = :partner_id AND service = :service")
_WRITE = text(
    """
    INSERT INTO access_tokens (partner_id, service, sealed, expires_at) VALUES (:partner_id, :service, :sealed, :expires_at)
    ON CONFLICT (partner_id, service) DO UPDATE SET sealed = excluded.sealed, expires_at = excluded.expires_at
    """
)


def refresh_margin(lifetime: timedelta) -> timedelta:
    """How long before its end a token is no longer used: a twelfth of its life, 60 s to 5 min, never more than half of it."""
    return min(max(_LEAST_MARGIN, min(_MOST_MARGIN, lifetime / 12)), lifetime / 2)


class AccessTokens:
    """The TokenStore of one partner (vault_core/clients/daraja.py). Safe for many tasks; its repr shows no token."""

    def __init__(self, runtime: Runtime, partner_id: UUID) -> None:
        self._runtime = runtime
        self._partner_id = partner_id
        self._copy: tuple[str, datetime] | None = None
        self._one_at_a_time = asyncio.Lock()  # else every task in flight would hold a connection to wait for the same row

    def __repr__(self) -> str:
        return f"AccessTokens(partner_id={self._partner_id})"

    async def token(self, fetch: TokenFetch, *, refused: str | None = None) -> str:
        """A token to use now. `refused` is the one the gateway just refused.

        Calls `fetch` (which answers token and lifetime) only if no usable token is stored, or the refused one is still the
        stored one; at most one process does so at a time. What `fetch` raises passes through and changes nothing.
        """
        copy = self._usable_copy(refused)
        if copy is not None:
            return copy
        async with self._one_at_a_time:
            copy = self._usable_copy(refused)
            if copy is not None:
                return copy
            async with self._runtime.engine.begin() as connection:
                self._copy = await self._stored(connection, refused) or await self._refreshed(connection, fetch, refused)
                reach("before commit", self.token)
            reach("after commit", self.token)
            return self._copy[0]

    def _usable_copy(self, refused: str | None) -> str | None:
        if self._copy is None or self._copy[0] == refused or self._copy[1] <= self._runtime.clock.now():
            return None
        return self._copy[0]

    async def _refreshed(self, connection: AsyncConnection, fetch: TokenFetch, refused: str | None) -> tuple[str, datetime]:
        await connection.execute(_LOCK, {"name": self._binding})
        stored = await self._stored(connection, refused)  # again: whoever held the lock before may have refreshed it
        if stored is not None:
            return stored
        token, lifetime = await fetch()
        expires_at = self._runtime.clock.now() + lifetime - refresh_margin(lifetime)
        await connection.execute(
            _WRITE,
            {
                "partner_id": self._partner_id,
                "service": _SERVICE,
                "sealed": self._runtime.sealer.seal(token, bound_to=self._binding),
                "expires_at": expires_at,
            },
        )
        return token, expires_at

    async def _stored(self, connection: AsyncConnection, refused: str | None) -> tuple[str, datetime] | None:
        row = (await connection.execute(_READ, {"partner_id": self._partner_id, "service": _SERVICE})).one_or_none()
        if row is None or row.expires_at <= self._runtime.clock.now():
            return None
        token = self._runtime.sealer.open_text(row.sealed, bound_to=self._binding)
        return None if token == refused else (token, row.expires_at)

    @property
    def _binding(self) -> str:
        return f"access_tokens:{self._partner_id}:{_SERVICE}"
