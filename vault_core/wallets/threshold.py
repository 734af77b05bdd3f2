"""The balance under which a partner is told that its wallet runs low."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, NotFound
from vault_core.money import ZERO, Money
from vault_core.runtime import Runtime

_READ = text("SELECT name, low_balance_cents FROM partners WHERE id = :id FOR NO KEY UPDATE")
_WRITE = text("UPDATE partners SET low_balance_cents = :cents WHERE id = :id")


async def set_threshold(runtime: Runtime, partner_id: UUID, threshold: Money, *, actor: str) -> Money:
    """Sets the partner's low-balance threshold (zero: it wants no alert) and returns the former one. Audited if it changes.

    Raises InvalidInput for a negative threshold and NotFound for an unknown partner.
    """
    if threshold < ZERO:
        raise InvalidInput(f"a threshold of {threshold} is negative: 0 switches the alert off")

    async def work(connection: AsyncConnection) -> Money:
        row = (await connection.execute(_READ, {"id": partner_id})).one_or_none()
        if row is None:
            raise NotFound(f"there is no partner {partner_id}")
        former = Money(row.low_balance_cents)
        if former != threshold:
            await connection.execute(_WRITE, {"id": partner_id, "cents": threshold.cents})
            await record_act(
                connection,
                runtime.clock,
                runtime.new_id,
                actor=actor,
                act="wallet.threshold_set",
                subject=f"wallet {row.name}",
                partner_id=partner_id,
                before={"low_balance_cents": former.cents},
                after={"low_balance_cents": threshold.cents},
            )
        return former

    return await in_transaction(runtime.engine, work)
