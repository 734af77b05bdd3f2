"""Answers of pulls, and what M-Pesa was told before payments, are kept for a time: for good where a payment rests on them."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.runtime import Runtime

_MOST = 2_000
_PURGE = text("SELECT purge_feed_answers(:before, :most)")


async def purge_feed_answers(runtime: Runtime) -> int:
    """Deletes some of what is older than the installation keeps it, and returns how much; until that is 0 there may be more.

    What was kept as evidence of a booked payment stays, and what could not be read (functions/20_purging.sql).
    """
    before = runtime.clock.now() - timedelta(days=runtime.pace.feed_answers_kept)

    async def work(connection: AsyncConnection) -> int:
        return int((await connection.execute(_PURGE, {"before": before, "most": _MOST})).scalar_one())

    return await in_transaction(runtime.engine, work)
