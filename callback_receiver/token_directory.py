"""Whose delivery a path token marks, from memory, following the table within seconds."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.errors import SealBroken, Unreachable
from vault_core.partners.credentials import CredentialPurpose, credential_binding
from vault_core.secrets import Sealer

log = structlog.get_logger(__name__)

_READ = text(
    """
    SELECT t.token_hash, t.partner_id, t.purpose, c.sealed AS hook_secret_sealed
    FROM callback_tokens t LEFT JOIN partner_credentials c
         ON t.purpose = 'mifos_hook' AND c.partner_id = t.partner_id AND c.purpose = 'hook_secret'
    WHERE t.revoked_at IS NULL
    """
)
_BETWEEN_READS = 0.5  # a flood of unknown tokens costs the database two reads a second, however large it is
_MOST_WAITING = 200
_READ_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """What a token stands for. `hook_secret`: deliveries to it must be signed with this."""

    partner_id: UUID
    purpose: str
    hook_secret: bytes | None = field(default=None, repr=False)


class TokenDirectory:
    """The callback tokens that are not revoked, by their hash, and those seen lately, by themselves."""

    def __init__(self, engine: AsyncEngine, sealer: Sealer, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._sealer = sealer
        self._monotonic = monotonic
        self._by_hash: dict[bytes, TokenOwner] = {}
        self._seen: dict[str, TokenOwner] = {}  # known tokens only, so no flood can grow it
        self._read_at = float("-inf")
        self._upcoming: asyncio.Task[None] | None = None
        self._waiting = 0

    def known(self, token: str) -> TokenOwner | None:
        """The owner of `token` from memory; None if it is unknown there."""
        owner = self._seen.get(token)
        if owner is None and (owner := self._by_hash.get(self._sealer.token_hash(token))) is not None:
            self._seen[token] = owner
        return owner

    async def find(self, token: str) -> TokenOwner | None:
        """The owner of a token that memory does not know, after a read that began later than this call.

        None: it is unknown or revoked. Raises Unreachable if that cannot be told (no database, or too many ask).
        """
        if self._waiting >= _MOST_WAITING:
            raise Unreachable("too many unknown tokens are being looked up")
        self._waiting += 1
        try:
            if self._upcoming is None:
                self._upcoming = asyncio.create_task(self._read_when_allowed())
            await asyncio.shield(self._upcoming)
        finally:
            self._waiting -= 1
        return self.known(token)

    async def read(self) -> None:
        """Reads all tokens. Raises Unreachable if the database does not answer in time."""
        self._read_at = self._monotonic()
        try:
            async with asyncio.timeout(_READ_WITHIN), self._engine.connect() as connection:
                rows = (await connection.execute(_READ)).all()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise Unreachable(f"the callback tokens cannot be read: {type(error).__name__}") from error
        self._by_hash = {bytes(row.token_hash): self._owner(row) for row in rows}
        self._seen = {}

    async def follow(self, every: float) -> None:
        """Reads the tokens every `every` seconds until cancelled; while the database is away, the last known ones stay."""
        while True:
            try:
                await self.read()
            except Unreachable as error:
                log.warning("callback tokens not renewed", cause=str(error))
            await asyncio.sleep(every)

    def _owner(self, row: Row[Any]) -> TokenOwner:
        if row.hook_secret_sealed is None:
            return TokenOwner(row.partner_id, row.purpose)
        binding = credential_binding(row.partner_id, CredentialPurpose.HOOK_SECRET)
        try:
            secret = self._sealer.open(row.hook_secret_sealed, bound_to=binding)
        except SealBroken as error:
            log.critical("hook secret not opened: none of its hooks is taken", partner_id=str(row.partner_id), cause=str(error))
            secret = token_bytes(32)  # nobody can have signed with it
        return TokenOwner(row.partner_id, row.purpose, secret)

    async def _read_when_allowed(self) -> None:
        await asyncio.sleep(max(0.0, self._read_at + _BETWEEN_READS - self._monotonic()))
        self._upcoming = None  # who asks from here on needs a later read
        await self.read()
