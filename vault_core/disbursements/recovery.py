"""Instructions whose process died between writing them and recording the answer: nobody knows whether they were sent."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.disbursements.attempts import lock_attempts
from vault_core.disbursements.awaiting import Waiting, book_waiting
from vault_core.disbursements.evidence import SaysNothing
from vault_core.disbursements.states import AttemptState
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

_MOST = 500
_MARGIN = timedelta(seconds=30)

_ORPHANS = text(
    "SELECT id FROM disbursement_attempts WHERE state = 'written' AND send_by <= :before ORDER BY send_by LIMIT :most"
)


async def recover_sending(runtime: Runtime, _connections: Connections) -> int:
    """Marks instructions that nobody can be sending any more as unknown, to be asked about, and returns how many.

    A call begun before `send_by` is given up by the HTTP time-out after it; only then is an instruction orphaned. What M-Pesa
    then knows nothing of goes again under its own id; what it knows is settled by its answer.
    """
    before = runtime.clock.now() - timedelta(seconds=runtime.pace.http_timeout) - _MARGIN

    async def work(connection: AsyncConnection) -> int:
        ids = [row.id for row in await connection.execute(_ORPHANS, {"before": before, "most": _MOST})]
        attempts = [attempt for attempt in await lock_attempts(connection, ids=ids) if attempt.state is AttemptState.WRITTEN]
        lost = SaysNothing("lost", "the process that sent it stopped before it heard the answer")
        await book_waiting(connection, runtime, [Waiting(attempt, lost) for attempt in attempts])
        return len(attempts)

    return await in_transaction(runtime.engine, work)
