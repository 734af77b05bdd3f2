"""A Mifos X that is away: the queue of its partner waits, and is tried again when the server itself says that it is back.

Whether it is away is asked of the whole server, never concluded from one account: a read of one loan may fail for ever on a
server that is well, and must then come to a person.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from vault_core.errors import TransientError, Unreachable, VaultError
from vault_core.outbox.calls import MIFOS_TOPIC, Again
from vault_core.outbox.outages import Outage, begin_outages, end_outage, put_off, take_probes
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

_LONGEST_PROBE = timedelta(seconds=75)  # a read takes up to 60
_DO = (
    "see that the partner's Mifos X runs and can be reached from here; nothing else needs doing: what is to be posted waits, "
    "goes on within a minute of its return, and this case closes by itself"
)

K = TypeVar("K")


async def note_away(runtime: Runtime, partner_id: UUID, cause: str) -> None:
    """The partner's Mifos X was just found to be away: its queue waits from now on."""
    await begin_outages(runtime, MIFOS_TOPIC, [(partner_id, cause)])


async def is_away(runtime: Runtime, connections: Connections, partner_id: UUID) -> bool:
    """After something failed: asks the partner's Mifos X once whether it is there. If not, its queue waits from now on."""
    try:
        await (await connections.mifos(partner_id)).reach()
    except Unreachable as error:
        await note_away(runtime, partner_id, str(error))
        return True
    except VaultError:
        return False
    return False


async def again_after(
    runtime: Runtime, connections: Connections, failed: Mapping[K, tuple[UUID, VaultError]]
) -> Mapping[K, Again]:
    """What becomes of calls (by any key) whose partner's Mifos X could not be read: again, and not counted where it is away."""
    partners = list({partner_id for partner_id, error in failed.values() if isinstance(error, TransientError)})
    away = dict(zip(partners, await asyncio.gather(*(is_away(runtime, connections, one) for one in partners)), strict=True))
    return {
        key: Again(f"{type(error).__name__}: {error}", counted=not away.get(partner_id, False))
        for key, (partner_id, error) in failed.items()
    }


async def probe_away(runtime: Runtime, connections: Connections) -> int:
    """Asks those servers that are away and due to be asked whether they are back; returns how many are. Any number may ask."""
    due = await take_probes(runtime, MIFOS_TOPIC, _LONGEST_PROBE)
    return sum(await asyncio.gather(*(_probe(runtime, connections, outage) for outage in due)))


async def _probe(runtime: Runtime, connections: Connections, outage: Outage) -> bool:
    try:
        await (await connections.mifos(outage.partner_id)).reach()
    except VaultError as error:
        await put_off(runtime, outage, str(error), system="mifos", do=_DO)
        return False
    await end_outage(runtime, outage, system="mifos")
    return True
