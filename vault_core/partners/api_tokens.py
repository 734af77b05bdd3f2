"""Bearer tokens of the partners' API: shown once, kept as a keyed hash, bound to scopes, a life and a rate (DESIGN.md 9)."""

import math
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer

REQUESTS_A_MINUTE = 120
LONGEST_LIFE = timedelta(days=366)

_MARK = "pv_"  # by which a leaked one is recognised
_TOKEN = re.compile(r"pv_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")  # as the check of api_tokens.name
_MINUTE = timedelta(minutes=1)
_MOST_A_MINUTE = 100_000


class Scope(StrEnum):
    """What a token may be used for."""

    COLLECT_WRITE = "collect:write"
    COLLECT_READ = "collect:read"
    WALLET_READ = "wallet:read"
    DISBURSEMENTS_READ = "disbursements:read"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as it may be shown: never itself."""

    id: UUID
    partner_id: UUID
    name: str
    scopes: frozenset[Scope]
    requests_a_minute: int
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """'active', 'expired' or 'revoked'."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if now < self.expires_at else "expired"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, by a live token. `retry_after`: the token's minute is used up, come back in so many seconds."""

    partner_id: UUID
    name: str
    scopes: frozenset[Scope]
    retry_after: int | None

    @property
    def actor(self) -> str:
        """The caller in audit trails."""
        return f"token:{self.name}"


_COLUMNS = """
    id, partner_id, name, scopes, requests_a_minute, created_at, created_by, expires_at, revoked_at, last_used_at
"""
_INSERT = text(
    f"""
    INSERT INTO api_tokens (id, partner_id, name, token_hash, scopes, requests_a_minute, created_at, created_by, expires_at)
    VALUES (:id, :partner_id, :name, :token_hash, :scopes, :requests_a_minute, :now, :actor, :expires_at) RETURNING {_COLUMNS}
    """  # noqa: S608 - the columns stand above
)
_LIST = text(
    f"SELECT {_COLUMNS} FROM api_tokens WHERE partner_id = :partner_id ORDER BY revoked_at NULLS FIRST, name, id"  # noqa: S608
)
_REVOKE = text(
    f"""
    UPDATE api_tokens SET revoked_at = :now WHERE partner_id = :partner_id AND name = :name AND revoked_at IS NULL
    RETURNING {_COLUMNS}
    """  # noqa: S608
)
# Finding, counting and noting the use are one statement: whatever process is asked, the count is the token's.
_ADMIT = text(
    """
    UPDATE api_tokens SET last_used_at = :now,
           minute_began_at = CASE WHEN minute_began_at > :minute_ago THEN minute_began_at ELSE :now END,
           requests = CASE WHEN minute_began_at > :minute_ago THEN least(requests, requests_a_minute) + 1 ELSE 1 END
    WHERE token_hash = :token_hash AND revoked_at IS NULL AND expires_at > :now
    RETURNING partner_id, name, scopes, requests > requests_a_minute AS used_up, minute_began_at
    """
)


async def add_api_token(
    runtime: Runtime,
    partner: Partner,
    name: str,
    scopes: Iterable[Scope],
    *,
    valid_for: timedelta,
    requests_a_minute: int = REQUESTS_A_MINUTE,
    actor: str,
) -> tuple[str, ApiToken]:
    """Makes a token and returns it, which nothing can do again. Audited.

    Raises Conflict if the partner has a live one of that name, InvalidInput for what a token cannot be.
    """
    chosen = sorted(set(scopes))
    _check(name, chosen, valid_for, requests_a_minute)
    token, now = _MARK + secrets.token_urlsafe(32), runtime.clock.now()

    async def work(connection: AsyncConnection) -> ApiToken:
        row = await connection.execute(
            _INSERT,
            {
                "id": runtime.new_id(),
                "partner_id": partner.id,
                "name": name,
                "token_hash": _hash(runtime.sealer, token),
                "scopes": chosen,
                "requests_a_minute": requests_a_minute,
                "now": now,
                "actor": actor,
                "expires_at": now + valid_for,
            },
        )
        made = _token(row.one())
        await _audit(connection, runtime, partner, made, act="api_token.added", actor=actor)
        return made

    try:
        return token, await in_transaction(runtime.engine, work)
    except IntegrityError as error:
        raise Conflict(f"{partner.name} has a token {name!r} already: revoke it first, or choose another name") from error


async def list_api_tokens(connection: AsyncConnection, partner_id: UUID) -> list[ApiToken]:
    """The partner's tokens, the live ones first."""
    return [_token(row) for row in await connection.execute(_LIST, {"partner_id": partner_id})]


async def revoke_api_token(runtime: Runtime, partner: Partner, name: str, *, actor: str, reason: str) -> ApiToken:
    """Ends the token of that name, from the next request on. Audited. Raises NotFound if no such one lives."""

    async def work(connection: AsyncConnection) -> ApiToken:
        asked = {"partner_id": partner.id, "name": name, "now": runtime.clock.now()}
        row = (await connection.execute(_REVOKE, asked)).one_or_none()
        if row is None:
            raise NotFound(f"{partner.name} has no live token {name[:50]!r}: `vault partner api-token list {partner.name}`")
        ended = _token(row)
        await _audit(connection, runtime, partner, ended, act="api_token.revoked", actor=actor, reason=reason)
        return ended

    return await in_transaction(runtime.engine, work)


async def admit(runtime: Runtime, token: str) -> Caller | None:
    """The caller who holds `token`, or None if it is none of ours, expired or revoked. Counts the request.

    A token has so many requests in the minute that begins with the first of them, over all processes; those above it are
    counted as refused and told when the minute ends.
    """
    if not _TOKEN.fullmatch(token):
        return None
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> Row[Any] | None:
        asked = {"token_hash": _hash(runtime.sealer, token), "now": now, "minute_ago": now - _MINUTE}
        return (await connection.execute(_ADMIT, asked)).one_or_none()

    row = await in_transaction(runtime.engine, work)
    if row is None:
        return None
    wait = math.ceil((row.minute_began_at + _MINUTE - now).total_seconds())
    return Caller(row.partner_id, row.name, _scopes(row.scopes), max(1, wait) if row.used_up else None)


def parse_scopes(names: Iterable[str]) -> list[Scope]:
    """The scopes of these names. Raises InvalidInput, listing the names there are."""
    try:
        return [Scope(name) for name in names]
    except ValueError as error:
        raise InvalidInput(f"{error}; scopes: {', '.join(Scope)}") from None


def _check(name: str, scopes: list[Scope], valid_for: timedelta, requests_a_minute: int) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:50]!r} is not a name for a token; write 2 to 41 lower-case letters, digits and dashes")
    if not scopes:
        raise InvalidInput(f"a token without a scope opens nothing; scopes: {', '.join(Scope)}")
    if not timedelta(0) < valid_for <= LONGEST_LIFE:
        raise InvalidInput(f"a token lives from 1 to {LONGEST_LIFE.days} days")
    if not 0 < requests_a_minute <= _MOST_A_MINUTE:
        raise InvalidInput(f"a token has from 1 to {_MOST_A_MINUTE} requests a minute")


async def _audit(
    connection: AsyncConnection,
    runtime: Runtime,
    partner: Partner,
    token: ApiToken,
    *,
    act: str,
    actor: str,
    reason: str | None = None,
) -> None:
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=act,
        subject=f"{partner.name} {token.name}",
        partner_id=partner.id,
        after={
            "scopes": sorted(token.scopes),
            "expires_at": token.expires_at.isoformat(),
            "requests_a_minute": token.requests_a_minute,
        },
        reason=reason,
    )


def _hash(sealer: Sealer, token: str) -> bytes:
    return sealer.lookup_hash(token, purpose="api token")


def _token(row: Row[Any]) -> ApiToken:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    return ApiToken(**values | {"scopes": _scopes(row.scopes)})


def _scopes(names: Iterable[str]) -> frozenset[Scope]:
    return frozenset(Scope(name) for name in names)
