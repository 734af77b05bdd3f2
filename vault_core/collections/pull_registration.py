"""Switching Pull Transactions on for a pay bill (reference/daraja.md section 6.4)."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, RemoteBusy, RemoteRefusal, Unreachable
from vault_core.outcome import Refusal, Refused, Unknown
from vault_core.partners.callback_urls import CallbackPurpose, callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.phones import mask_phone, normalise_phone
from vault_core.runtime import Runtime

_WRITE = text(
    """
    INSERT INTO pull_feeds AS f (short_code, partner_id, registered_at, begins_at, swept_to, next_sweep_at)
    VALUES (:short_code, :partner_id, :now, :begins_at, :begins_at, :now)
    ON CONFLICT (short_code) DO UPDATE SET next_sweep_at = excluded.next_sweep_at,
        begins_at = least(f.begins_at, excluded.begins_at), again_from = least(f.again_from, excluded.begins_at)
    """
)
FARTHEST_BACK = timedelta(hours=47)  # M-Pesa tells 48


async def register_pull(
    runtime: Runtime,
    connections: Connections,
    partner: Partner,
    nominated_number: str,
    *,
    actor: str,
    back: timedelta = timedelta(0),
) -> None:
    """Registers the partner's pay bill with M-Pesa and has it swept from now on. Audited; repeatable.

    `nominated_number` is the mobile number that the owner of the pay bill gave Safaricom. `back`: so much of the past is read,
    too. Only where its confirmations would have come here: what another program entered in Mifos X would be entered twice.
    Raises InvalidInput for another form of number or more than FARTHEST_BACK, RemoteRefusal with M-Pesa's words, RemoteBusy or
    Unreachable when it may be run again.
    """
    number = normalise_phone(nominated_number)
    if not timedelta(0) <= back <= FARTHEST_BACK:
        raise InvalidInput(
            f"pulls reach back from 0 to {FARTHEST_BACK // timedelta(hours=1)} hours; what is older is in statements"
        )
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
        begins_at = now.replace(microsecond=0) - back  # M-Pesa counts seconds
        values = {"short_code": partner.c2b_short_code, "partner_id": partner.id, "now": now, "begins_at": begins_at}
        await connection.execute(_WRITE, values)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="partner.pull_registered",
            subject=f"{partner.name} pay bill {partner.c2b_short_code}",
            partner_id=partner.id,
            after={"nominated_number": mask_phone(number), "hours_back": back // timedelta(hours=1)},
        )

    await in_transaction(runtime.engine, work)
