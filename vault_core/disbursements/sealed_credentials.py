"""Lenders whose credentials do not open: what their Mifos X told us is kept, people have a case, and all goes on once they do.

They do not open when the master key is another one, or their row was moved or damaged.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.errors import SealBroken
from vault_core.runtime import Runtime

SEALED = "credentials_sealed"

_WAKE_HOOKS = text(
    """
    UPDATE inbound_events SET next_sweep_at = :now
    WHERE state = 'stored' AND next_sweep_at > :now AND partner_id = :partner_id AND purpose = 'mifos_hook'
    """
)


async def note_sealed(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, cause: SealBroken) -> None:
    """Opens the case of the partner, unless it is open."""
    evidence = {
        "cause": str(cause)[:500],
        "do": "give the processes the master key that they were sealed under, or set the partner's secrets anew with `vault "
        "partner set-secret`; nothing else needs doing: the hooks of its Mifos X are kept, and the next poll closes this case",
    }
    case = NewCase(SEALED, _subject(partner_id), partner_id, evidence=evidence)
    await open_cases(connection, runtime.clock, runtime.new_id, [case])


async def note_opened(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> None:
    """Closes the case of the partner, if there is one, and has its hooks that were left taken up again at once."""
    resolution = "its credentials open again"
    if await close_case(connection, runtime.clock, kind=SEALED, subject=_subject(partner_id), resolution=resolution):
        await connection.execute(_WAKE_HOOKS, {"partner_id": partner_id, "now": runtime.clock.now()})


def _subject(partner_id: UUID) -> str:
    return f"partner {partner_id}"
