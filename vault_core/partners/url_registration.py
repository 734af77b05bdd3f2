"""Telling M-Pesa and Mifos X where to reach us: the C2B URLs of the pay bill, and the web hook for loans and payments."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clients.mifos import HOOK_EVENTS, MifosClient
from vault_core.clients.mifos_values import MifosHook
from vault_core.database import in_transaction
from vault_core.errors import ConfigurationError, Conflict, RemoteBusy, RemoteRefusal, Unreachable
from vault_core.outcome import Refusal, Refused, Unknown
from vault_core.partners.callback_urls import CallbackPurpose, callback_url, forbidden_words
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Hook:
    """The web hook in the partner's Mifos X; `created` says that it was made just now. `added`: events it did not send before."""

    id: int
    url: str
    created: bool
    added: tuple[tuple[str, str], ...] = ()


async def register_c2b_urls(runtime: Runtime, connections: Connections, partner: Partner, *, actor: str) -> None:
    """Registers the confirmation and validation URLs of the partner's pay bill with M-Pesa. Audited.

    Production takes this once (reference/daraja.md section 4.1). Raises ConfigurationError for a public URL that Daraja
    refuses, RemoteRefusal with Daraja's words, Unreachable if the answer is unclear: then it may be run again.
    """
    confirmation = callback_url(runtime, partner.id, CallbackPurpose.C2B_CONFIRMATION)
    validation = callback_url(runtime, partner.id, CallbackPurpose.C2B_VALIDATION)
    if words := forbidden_words(confirmation):
        raise ConfigurationError(
            f"Daraja refuses URLs that hold {', '.join(words)}, and the public URL is {runtime.public_url}: "
            "set VAULT_PUBLIC_URL to one without it"
        )
    daraja = await connections.daraja(partner.id)
    outcome = await daraja.register_c2b_urls(partner.c2b_short_code, confirmation, validation)
    what = f"the URLs of pay bill {partner.c2b_short_code}"
    if isinstance(outcome, Unknown):
        raise Unreachable(f"whether M-Pesa registered {what} is not known ({outcome.cause}): run it again")
    if isinstance(outcome, Refused):
        if outcome.refusal is Refusal.RETRY_LATER:
            raise RemoteBusy(f"M-Pesa did not take {what} now ({outcome.code}: {outcome.reason}): run it again later")
        advice = (
            ": remove them in the M-Pesa portal (Self Services, URL Management), then run this again"
            if outcome.code == "already_registered"
            else ""
        )
        raise RemoteRefusal(f"M-Pesa refused {what} ({outcome.code}: {outcome.reason}){advice}", code=outcome.code)
    await _audit(runtime, partner, "partner.c2b_urls_registered", f"pay bill {partner.c2b_short_code}", actor)


async def ensure_mifos_hook(runtime: Runtime, connections: Connections, partner: Partner, *, actor: str) -> Hook:
    """The web hook that tells us of loans and payments: made, or given the events that it lacks. Idempotent, audited.

    Mifos X calls the URL while it makes the hook, so the receiver must be up and reachable from there. Raises Conflict if our
    hook is there but switched off, RemoteRefusal if our user may not change it, and what the client raises.
    """
    url = callback_url(runtime, partner.id, CallbackPurpose.MIFOS_HOOK)
    mifos = await connections.mifos(partner.id)
    for hook in await mifos.hooks():
        if hook.url is not None and hook.url.rstrip("/") == url.rstrip("/"):
            return await _renewed(runtime, mifos, partner, hook, url, actor)
    try:
        made = await mifos.create_hook(url)
    except RemoteRefusal as error:
        if "hook.url" not in error.code:
            raise
        raise RemoteRefusal(
            f"Mifos X at {partner.mifos_url} could not call us at {runtime.public_url} ({error.code}): the receiver must be "
            "up, and VAULT_PUBLIC_URL an address that the Mifos X server can reach",
            code=error.code,
            status=error.status,
        ) from error
    await _audit(runtime, partner, "partner.mifos_hook_created", f"hook {made}", actor)
    return Hook(made, url, created=True)


async def _renewed(runtime: Runtime, mifos: MifosClient, partner: Partner, hook: MifosHook, url: str, actor: str) -> Hook:
    """The hook that is there, sending all that a new one would."""
    if not hook.active:
        raise Conflict(f"hook {hook.id} in Mifos X is switched off: make it active there (Admin, System, Manage Hooks)")
    lacks = tuple(event for event in HOOK_EVENTS if event not in hook.events)
    if not lacks:
        return Hook(hook.id, url, created=False)
    events = ", ".join(f"{entity} {action}" for entity, action in lacks)
    try:
        await mifos.renew_hook(hook, url)
    except RemoteRefusal as error:
        raise RemoteRefusal(
            f"hook {hook.id} in Mifos X does not send {events}, and Mifos X did not let us add that ({error.code}): give our "
            f"user {partner.mifos_user} the permission UPDATE_HOOK, or add the events there (Admin, System, Manage Hooks)",
            code=error.code,
            status=error.status,
        ) from error
    await _audit(runtime, partner, "partner.mifos_hook_renewed", f"hook {hook.id}: {events}", actor)
    return Hook(hook.id, url, created=False, added=lacks)


async def _audit(runtime: Runtime, partner: Partner, act: str, subject: str, actor: str) -> None:
    async def work(connection: AsyncConnection) -> None:
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act=act,
            subject=f"{partner.name} {subject}",
            partner_id=partner.id,
        )

    await in_transaction(runtime.engine, work)
