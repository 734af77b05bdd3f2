"""A Mifos X that is away: the queue of its partner waits, and is tried again when the server itself says that it is back.

An outage that lasts is a case, which closes itself. Whether the server is away is asked of the whole server, never concluded from
one account: a read of one loan may fail for ever on a server that is well, and must then come to a person.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.database import in_transaction
from vault_core.errors import TransientError, Unreachable, VaultError
from vault_core.outbox.calls import MIFOS_TOPIC, Again
from vault_core.outbox.outages import Outage, begin_outage, end_outage, put_off, take_probes
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

AWAY = "mifos_away"
_LONGEST_PROBE = timedelta(seconds=75)  # a read takes up to 60
_DO = (
    "see that the partner's Mifos X runs and can be reached from here; nothing else needs doing: what is to be paid or posted "
    "waits, goes on within a minute of its return, and this case closes by itself"
)

K = TypeVar("K")


async def note_away(runtime: Runtime, partner_id: UUID, cause: str) -> None:
    """The partner's Mifos X was just found to be away: its queue waits from now on."""
    await begin_outage(runtime, MIFOS_TOPIC, partner_id, cause)


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
        cause = str(error)
        await in_transaction(runtime.engine, lambda connection: _still_away(connection, runtime, outage, cause))
        return False
    await in_transaction(runtime.engine, lambda connection: _back(connection, runtime, outage))
    return True


async def _still_away(connection: AsyncConnection, runtime: Runtime, outage: Outage, cause: str) -> None:
    waiting = await put_off(connection, runtime, outage, cause)
    lasts = runtime.clock.now() - outage.since
    if waiting is None or lasts < timedelta(seconds=runtime.pace.outage_told_after):
        return
    evidence = {"since": outage.since.isoformat(), "cause": cause[:500], "calls_waiting": waiting, "do": _DO}
    case = NewCase(AWAY, _subject(outage), outage.partner_id, evidence=evidence)
    await open_cases(connection, runtime.clock, runtime.new_id, [case])


async def _back(connection: AsyncConnection, runtime: Runtime, outage: Outage) -> None:
    await end_outage(connection, runtime, outage)
    resolution = f"it answers again since {runtime.clock.now().isoformat()}"
    await close_case(connection, runtime.clock, kind=AWAY, subject=_subject(outage), resolution=resolution)


def _subject(outage: Outage) -> str:
    return f"partner {outage.partner_id}"
