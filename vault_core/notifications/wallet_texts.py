"""What a partner's people are told about its wallet: that it runs low, that loans wait for money, and what to pay in."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.errors import VaultError
from vault_core.ledger.holds import Short
from vault_core.money import ZERO, Money
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.notifications.templates import render
from vault_core.partners.partner import Partner, load_partner
from vault_core.runtime import Runtime
from vault_core.wallets.alerts import AlertKind, WatchedWallet, end_alerts, raise_alert, turn_of_alert, watched_wallets
from vault_core.wallets.low_balance import load_burns, recommended_topup

log = structlog.get_logger(__name__)

_TEMPLATES: Mapping[AlertKind, str] = {"low": "wallet_low", "short": "wallet_short"}
# Locked first, and looked at in a statement of its own: a worker that writes an attempt at this moment is waited for and seen.
_QUEUED = text(
    """
    SELECT id FROM messages WHERE partner_id = ANY(:partner_ids) AND created_at >= :since AND template = :template
          AND state = 'queued' ORDER BY id FOR UPDATE
    """
)
_WITHDRAW = text(
    """
    UPDATE messages SET state = 'withdrawn', reason = 'the shortage was over before it could be sent'
    WHERE id = ANY(:ids) AND NOT EXISTS (SELECT FROM message_attempts a WHERE a.message_id = messages.id AND a.state <> 'refused')
    """
)


async def watch_wallets(runtime: Runtime) -> int:
    """Looks at every wallet once: ends the low-balance alerts that are over, raises and tells those that are due.

    Returns how many alerts began or ended. An alert and its texts are written in one transaction and by one worker only, so they
    are told once a crossing. A dip that was over by the time of the look is not told at all, and one that is over before a
    gateway could be handed the text not any more. A partner whose people cannot be told (a contact that does not open, say) is
    logged, tried again at the next look, and holds back no other.
    """
    async with runtime.engine.connect() as connection:
        turns = [(wallet, turn_of_alert(wallet)) for wallet in await watched_wallets(connection)]
    over = [wallet.partner_id for wallet, turn in turns if turn == "end"]
    changed = 0
    if over:
        changed += await in_transaction(runtime.engine, lambda connection: end_shortages(connection, runtime, over, "low"))
    for wallet in (wallet for wallet, turn in turns if turn == "raise"):
        changed += await _raise(runtime, wallet)
    return changed


async def end_shortages(connection: AsyncConnection, runtime: Runtime, partner_ids: Sequence[UUID], kind: AlertKind) -> int:
    """Ends the open alerts of these partners, in the caller's transaction, and returns how many there were.

    What could not be sent about them yet is withdrawn: it would be false by then.
    """
    ended = await end_alerts(connection, runtime, partner_ids, kind)
    if ended:
        about = {"partner_ids": list(ended), "since": min(ended.values()), "template": _TEMPLATES[kind]}
        queued = (await connection.execute(_QUEUED, about)).scalars().all()
        await connection.execute(_WITHDRAW, {"ids": list(queued)})
    return len(ended)


async def tell_wallet_short(connection: AsyncConnection, runtime: Runtime, partner: Partner, short: Short) -> None:
    """Tells the partner's people that loans wait for the wallet. For the caller that has just opened the alert."""
    values = {"needed": str(short.needed), "missing": str(max(short.needed - short.available, ZERO))}
    values |= await _standing(connection, runtime, partner, short.available, waiting=short.needed)
    fact = f"wallet_short:{partner.id}:{runtime.clock.now().isoformat()}"
    await tell_partners(connection, runtime, [PartnerText(partner, fact, "wallet_short", values)])


def pay_in_text(partner: str, portal_url: str | None) -> str:
    """How the partner of that name pays in: the link to its top-up page, or in words where there is no portal."""
    if portal_url is None:
        return render("pay_in_by_bank", {"name": partner}, partner="")
    return render("top_up_page", {"link": f"{portal_url}/wallets/{partner}/top-up"}, partner="")


async def _raise(runtime: Runtime, wallet: WatchedWallet) -> int:
    async def work(connection: AsyncConnection) -> int:
        alert_id = await raise_alert(connection, runtime, wallet.partner_id, "low", wallet.available)
        if alert_id is None:
            return 0  # another worker has told it
        partner = await load_partner(connection, id=wallet.partner_id)
        values = {"threshold": str(wallet.threshold)} | await _standing(connection, runtime, partner, wallet.available)
        await tell_partners(connection, runtime, [PartnerText(partner, f"wallet_low:{alert_id}", "wallet_low", values)])
        return 1

    try:
        return await in_transaction(runtime.engine, work)
    except VaultError as error:
        log.warning("low wallet not told", partner_id=str(wallet.partner_id), cause=str(error))
        return 0


async def _standing(
    connection: AsyncConnection, runtime: Runtime, partner: Partner, available: Money, *, waiting: Money = ZERO
) -> dict[str, str]:
    burn = (await load_burns(connection, runtime.clock.now(), [partner.id]))[partner.id]
    return {
        "available": str(available),
        "top_up": str(recommended_topup(available, burn, partner.low_balance, waiting)),
        "pay_in": pay_in_text(partner.name, runtime.portal_url),
    }
