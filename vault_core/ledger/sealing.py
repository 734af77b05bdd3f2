"""Sealing: batches of transactions hashed into a chain, so that rewriting history shows even if every guard was taken down.

No lock stands in the way of postings. A seal covers what database transactions numbered from X to before Y wrote, where Y is at
most the oldest database transaction still running on the server. All below it have ended: what they posted is seen whole, or
never will be. Ids and clocks play no part, so a posting whose id was made early and whose commit came late lands in a later
seal, never behind one. A transaction left open anywhere on the server holds sealing back; `verify_ledger` tells when it does.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.runtime import Runtime

SEAL_TRANSACTIONS = 5_000  # about so many in one seal: each is read in one piece when the chain is verified

_SEAL = text("SELECT ledger_seal(:now, :most)")


async def seal_due(runtime: Runtime, *, most: int = SEAL_TRANSACTIONS) -> int:
    """Seals every transaction that can be sealed now and returns how many. Callers at once take turns; none is sealed twice."""

    async def work(connection: AsyncConnection) -> int:
        sealed: int = (await connection.execute(_SEAL, {"now": runtime.clock.now(), "most": most})).scalar_one()
        return sealed

    total = 0
    while sealed := await in_transaction(runtime.engine, work):
        total += sealed
    return total
