"""M-Pesa's answers on the one topic that all questions share: about payouts, balances and reversals."""

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.reversal_results import apply_reversal_answers
from vault_core.disbursements.status_queries import apply_payout_answers
from vault_core.inbox.applying import apply_deliveries
from vault_core.inbox.delivery import Delivery
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime


async def handle_query_results(runtime: Runtime, _connections: Connections, ids: Sequence[UUID]) -> None:
    """Applies the stored answers and queue time-outs `ids`, each exactly once, by whom it is about."""
    await apply_deliveries(runtime, ids, partial(_apply, runtime))


async def _apply(runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Mapping[UUID, str]:
    effects = await apply_reversal_answers(connection, runtime, deliveries)
    rest = [delivery for delivery in deliveries if delivery.id not in effects]
    return {**effects, **await apply_payout_answers(runtime, connection, rest)}
