"""Switching Pull Transactions on for a pay bill (reference/daraja.md section 6.4)."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import RemoteBusy, RemoteRefusal, Unreachable
from vault_core.outcome import Refusal, Refused, Unknown
from vault_core.partners.callback_urls import CallbackPurpose, callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.phones import mask_phone, normalise_phone
from vault_core.runtime import Runtime

_WRITE = text(
    """
    INSERT INTO pull_feeds (short_code, partner_id, registered_at, next_sweep_at) VALUES (:short_code, :partner_id, :now, :now)
    ON CONFLICT (short_code) DO UPDATE SET next_sweep_at = excluded.next_sweep_at
    """
)


async def register_pull(
    runtime: Runtime, connections: Connections, partner: Partner, nominated_number: str, *, actor: str
) -> None:
    """Registers the partner's pay bill with M-Pesa and has it swept from now on, beginning 48 hours back. Audited; repeatable.

    `nominated_number` is the mobile number that the owner of the pay bill gave Safaricom. Raises InvalidInput for another form of
    number, RemoteRefusal with M-Pesa's words, RemoteBusy or Unreachable when it may be run again.
    """
    number = normalise_phone(nominated_number)
    # Nobody documents what is sent there; what comes is kept in the inbox like any delivery.
    url = callback_url(runtime, partner.id, CallbackPurpose.QUERY_RESULT)
    outcome = await (await connections.daraja(partner.id)).register_pull(partner.c2b_short_code, number, url)
    what = f"Pull Transactions of pay bill {partner.c2b_short_code}"
    if isinstance(outcome, Unknown):
        raise Unreachable(f"whether M-Pesa registered {what} is not known ({outcome.cause}): run it again")
    if isinstance(outcome, Refused):
        if outcome.refusal is Refusal.RETRY_LATER:
            raise RemoteBusy(f"M-Pesa did not take {what} now ({outcome.code}: {outcome.reason}): run it again later")
        raise RemoteRefusal(
            f"M-Pesa refused {what} ({outcome.code}: {outcome.reason}): the app must have the product Pull Transactions, and the "
            "number must be the one given to Safaricom",
            code=outcome.code,
        )

    async def work(connection: AsyncConnection) -> None:
        now = runtime.clock.now()
        await connection.execute(_WRITE, {"short_code": partner.c2b_short_code, "partner_id": partner.id, "now": now})
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="partner.pull_registered",
            subject=f"{partner.name} pay bill {partner.c2b_short_code}",
            partner_id=partner.id,
            after={"nominated_number": mask_phone(number)},
        )

    await in_transaction(runtime.engine, work)
