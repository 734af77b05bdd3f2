"""Later tranches: after the first no list of Mifos X shows them, so each disbursed tranche loan is looked at for its next one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import ApprovedLoan, MifosClient
from vault_core.database import in_transaction
from vault_core.disbursements.found_loans import FoundLoan, insert_found, with_phones
from vault_core.disbursements.tranches import has_next, is_closed, is_over
from vault_core.disbursements.undone_disbursals import note_standing, tell_undone
from vault_core.errors import Unreachable, VaultError
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200


@dataclass(frozen=True, slots=True)
class _Disbursed:
    """The last disbursed tranche of a loan."""

    id: UUID
    loan_id: int
    tranche: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found of the next tranche: a part to take in, or whether to look again; or a tranche of ours that was undone."""

    of: _Disbursed
    found: FoundLoan | None
    again: bool
    undone: ApprovedLoan | None = None
    stands: bool = False


_DUE = text(
    """
    SELECT d.id, d.partner_id, d.loan_id, d.tranche FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE d.next_tranche_at <= :now AND p.state <> 'paused' ORDER BY d.next_tranche_at LIMIT :most
    """
)
_LOOKED = text("UPDATE disbursements SET next_tranche_at = :again_at WHERE id = ANY(:ids) AND next_tranche_at IS NOT NULL")


async def find_next_tranches(runtime: Runtime, connections: Connections) -> int:
    """Reads the tranche loans that are due for a look and takes in the next tranche of each; returns how many were new.

    A tranche is taken in once the one before it stands in Mifos X, and held until its planned day, or for a person where the loan
    does not stand as it should. While one that we posted is undone there, a person has a case and nothing follows. A loan that is
    closed or fully disbursed is not looked at again. Any number of workers may look: a tranche is inserted once.
    """
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_DUE, {"now": runtime.clock.now(), "most": _MOST})).all()
    by_partner: dict[UUID, list[_Disbursed]] = {}
    for row in rows:
        by_partner.setdefault(row.partner_id, []).append(_Disbursed(row.id, row.loan_id, row.tranche))
    looks = [_of_partner(runtime, connections, partner_id, mine) for partner_id, mine in by_partner.items()]
    return sum(await asyncio.gather(*looks))


async def _of_partner(runtime: Runtime, connections: Connections, partner_id: UUID, due: Sequence[_Disbursed]) -> int:
    read_at = runtime.clock.now()
    looks = await _look_at_all(connections, partner_id, due)

    async def work(connection: AsyncConnection) -> int:
        again_at = runtime.clock.now() + timedelta(seconds=runtime.pace.tranche_look_every)
        over = [look.of.id for look in looks if not look.again]
        await connection.execute(_LOOKED, {"ids": over, "again_at": None})
        await connection.execute(_LOOKED, {"ids": [look.of.id for look in looks if look.again], "again_at": again_at})
        await tell_undone(connection, runtime, partner_id, [look.undone for look in looks if look.undone is not None])
        await note_standing(connection, partner_id, [look.of.loan_id for look in looks if look.stands], read_at)
        found = [look.found for look in looks if look.found is not None]
        return len(await insert_found(connection, runtime, partner_id, found, "poll"))

    return await in_transaction(runtime.engine, work)


async def _look_at_all(connections: Connections, partner_id: UUID, due: Sequence[_Disbursed]) -> list[_Look]:
    """One look a loan. What cannot be read is looked at again at its time, and holds up no other; a server away is asked once."""
    looks = [_Look(item, None, again=True) for item in due]
    try:
        client = await connections.mifos(partner_id)
        for place, item in enumerate(due):
            looks[place] = await _look_or_later(client, partner_id, item)
    except VaultError as error:
        log.warning("next tranches not looked at", partner_id=str(partner_id), cause=str(error))
    return looks


async def _look_or_later(client: MifosClient, partner_id: UUID, item: _Disbursed) -> _Look:
    try:
        return await _look(client, item)
    except Unreachable:
        raise
    except VaultError as error:  # a loan that is hidden from our user, too: it may be shown again
        log.warning("next tranche not looked at", partner_id=str(partner_id), loan_id=item.loan_id, cause=str(error))
        return _Look(item, None, again=True)


async def _look(client: MifosClient, item: _Disbursed) -> _Look:
    loan = await client.loan(item.loan_id)
    if loan.disbursals < item.tranche and not is_closed(loan):
        return _Look(item, None, again=True, undone=loan)
    if has_next(loan):
        (found,) = await with_phones(client, [loan], number=item.tranche + 1)
        return _Look(item, found, again=False, stands=True)
    return _Look(item, None, again=not is_over(loan), stands=True)
