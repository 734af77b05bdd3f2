"""References that people said stand for an account: a nickname, a shop, somebody's phone.

What one person said routes a payment of no more than that person may assign alone; above it the payment goes to suspense with the
account as its candidate (account_lookup.py). Once another person has said the same, it routes any payment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.collections.masking import mask_reference
from vault_core.collections.matching import compact
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer


class AliasedAccount(Protocol):
    """What an alias stands for: FoundAccount is one."""

    @property
    def kind(self) -> str:
        """'loan' or 'savings'."""
        ...

    @property
    def id(self) -> int:
        """Its id in Mifos X."""
        ...

    @property
    def account_no(self) -> str:
        """Its number."""
        ...


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias in force."""

    id: UUID
    reference: str = field(repr=False)  # as it was given
    kind: str
    account_id: int
    account_no: str
    added_by: str
    added_at: datetime
    agreed_by: str | None  # who else said so


_ADD = text(
    """
    INSERT INTO account_aliases (id, partner_id, reference_hash, reference_sealed, kind, account_id, account_no, added_by,
                                 added_at)
    VALUES (:id, :partner_id, :hash, :sealed, :kind, :account_id, :account_no, :actor, :now)
    """
)
_END = text(
    """
    UPDATE account_aliases SET removed_by = :actor, removed_at = :now
    WHERE partner_id = :partner_id AND reference_hash = :hash AND removed_at IS NULL RETURNING id, kind, account_id, account_no
    """
)
_AGREE = text("UPDATE account_aliases SET agreed_by = :actor, agreed_at = :now WHERE id = :id")
_IN_FORCE = text(
    """
    SELECT id, reference_sealed, kind, account_id, account_no, added_by, added_at, agreed_by FROM account_aliases
    WHERE partner_id = :partner_id AND removed_at IS NULL ORDER BY added_at, id
    """
)
_STANDING = text(
    """
    SELECT id, kind, account_id, account_no, added_by, agreed_by FROM account_aliases
    WHERE partner_id = :partner_id AND reference_hash = :hash AND removed_at IS NULL
    """
)
# What may mean it by its own number, and takes payments.
_BEARERS = text(
    """
    SELECT kind, account_id, account_no FROM mifos_accounts
    WHERE partner_id = :partner_id AND number_key = :key AND state = 'active'
    UNION
    SELECT kind, account_id, account_no FROM mifos_accounts
    WHERE partner_id = :partner_id AND external_key = :key AND state = 'active'
    ORDER BY kind, account_id
    """
)
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('account aliases ' || CAST(:partner_id AS text), 0))")


def alias_hash(sealer: Sealer, reference: str) -> bytes:
    """By what an alias is found: any case and any spaces of `reference` give the same."""
    return sealer.lookup_hash(compact(reference), purpose="account alias")


async def add_alias(
    connection: AsyncConnection,
    runtime: Runtime,
    partner_id: UUID,
    reference: str,
    account: AliasedAccount,
    *,
    actor: str,
    agreed_by: str | None = None,
) -> bool:
    """From now on `reference` stands for `account`, in the caller's transaction. It takes the place of another; audited.

    `agreed_by`: another person who agreed to it. The same again from another person is such a word; from the same one it changes
    nothing. Returns whether two people have said so. Raises InvalidInput for an empty reference.
    """
    if not compact(reference):
        raise InvalidInput("an empty reference can stand for no account")
    await require_free(connection, partner_id, reference, account)
    await connection.execute(_TURN, {"partner_id": str(partner_id)})
    key = {"partner_id": partner_id, "hash": alias_hash(runtime.sealer, reference)}
    row = {"kind": account.kind, "account_id": account.id, "account_no": account.account_no}
    standing = (await connection.execute(_STANDING, key)).one_or_none()
    now = runtime.clock.now()
    if standing is not None and (standing.kind, standing.account_id) == (account.kind, account.id):
        other = next((one for one in (actor, agreed_by) if one not in {None, standing.added_by}), None)
        if standing.agreed_by is None and other is not None:
            await connection.execute(_AGREE, {"id": standing.id, "actor": other, "now": now})
            await _record(connection, runtime, partner_id, "collections.alias_agreed", reference, None, row, other)
        return (standing.agreed_by or other) is not None
    await connection.execute(_END, {**key, "actor": actor, "now": now})
    alias_id = runtime.new_id()
    sealed = runtime.sealer.seal(reference, bound_to=_binding(alias_id))
    await connection.execute(_ADD, {**key, **row, "id": alias_id, "sealed": sealed, "actor": actor, "now": now})
    if agreed_by is not None:
        await connection.execute(_AGREE, {"id": alias_id, "actor": agreed_by, "now": now})
    before = None if standing is None else {name: getattr(standing, name) for name in row}
    await _record(
        connection, runtime, partner_id, "collections.alias_added", reference, before, row | {"agreed_by": agreed_by}, actor
    )
    return agreed_by is not None


async def require_free(connection: AsyncConnection, partner_id: UUID, reference: str, account: AliasedAccount) -> None:
    """Raises Conflict where `reference` is the number of open accounts, and `account` is none of them."""
    bearers = (await connection.execute(_BEARERS, {"partner_id": partner_id, "key": compact(reference)})).all()
    if bearers and all((one.kind, one.account_id) != (account.kind, account.id) for one in bearers):
        named = ", ".join(f"{one.kind} {one.account_no}" for one in bearers)
        raise Conflict(
            f"{mask_reference(reference)} is the number of {named}, which is open: it cannot stand for another account"
        )


async def remove_alias(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, reference: str, *, actor: str) -> None:
    """`reference` stands for nothing any more, in the caller's transaction. Audited. Raises NotFound if it does not now."""
    key = {"partner_id": partner_id, "hash": alias_hash(runtime.sealer, reference)}
    ended = (await connection.execute(_END, {**key, "actor": actor, "now": runtime.clock.now()})).one_or_none()
    if ended is None:
        raise NotFound(f"{mask_reference(reference)} is no alias of this partner; `vault collections aliases` lists them")
    before = {"kind": ended.kind, "account_id": ended.account_id, "account_no": ended.account_no}
    await _record(connection, runtime, partner_id, "collections.alias_removed", reference, before, None, actor)


async def list_aliases(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> Sequence[Alias]:
    """The partner's aliases in force, oldest first."""
    return [
        Alias(
            id=row.id,
            reference=runtime.sealer.open_text(row.reference_sealed, bound_to=_binding(row.id)),
            kind=row.kind,
            account_id=row.account_id,
            account_no=row.account_no,
            added_by=row.added_by,
            added_at=row.added_at,
            agreed_by=row.agreed_by,
        )
        for row in await connection.execute(_IN_FORCE, {"partner_id": partner_id})
    ]


def _binding(alias_id: UUID) -> str:
    return f"account_aliases:{alias_id}:reference"


async def _record(
    connection: AsyncConnection,
    runtime: Runtime,
    partner_id: UUID,
    act: str,
    reference: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
    actor: str,
) -> None:
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=act,
        subject=f"alias {mask_reference(reference)}",
        partner_id=partner_id,
        before=before,
        after=after,
    )
