"""Whether a partner's clients are texted about payments that its own people enter in Mifos X."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

_SET = text("UPDATE partners SET text_core_payments = :on WHERE id = :id AND text_core_payments <> :on RETURNING id")


async def set_core_payment_texts(runtime: Runtime, partner: Partner, *, on: bool, actor: str) -> None:
    """Switches it on or off. Audited when it changes anything."""

    async def work(connection: AsyncConnection) -> None:
        changed = await connection.execute(_SET, {"id": partner.id, "on": on})
        if changed.one_or_none() is not None:
            await record_act(
                connection,
                runtime.clock,
                runtime.new_id,
                actor=actor,
                act="partner.core_payment_texts",
                subject=partner.name,
                partner_id=partner.id,
                before={"on": not on},
                after={"on": on},
            )

    await in_transaction(runtime.engine, work)
