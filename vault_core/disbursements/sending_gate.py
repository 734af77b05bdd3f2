"""The gate that every payout passes right before it is sent: shut by `vault halt`, or by a partner that is paused or halted.

It is shut as well while the partner's Mifos X is away: no loan could be read before it is paid.

Why a stop can be acknowledged exactly: claims hold a shared lock while they look at the gate and write their instructions. After
a stop is committed, `let_claims_end` waits for the claims that may not have seen it. From then on every instruction that can
still be sent is written, so whoever sees no written one (vault_core.disbursements.under_way) knows that nothing is under way.
"""

import asyncio
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import NAIROBI
from vault_core.database import in_transaction
from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.disbursements.float_shortage import why_paused
from vault_core.disbursements.payout_halt import halt_in_force
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.outbox.outages import away_since
from vault_core.partners.partner import Partner, load_partner
from vault_core.runtime import Runtime

FRESH = 0.5  # seconds that one look at the gate serves the sends of a process

_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('payouts may be claimed', 0))")
_EXCLUSIVE = text("SELECT pg_advisory_xact_lock(hashtextextended('payouts may be claimed', 0))")


async def enter_claim(connection: AsyncConnection) -> None:
    """Before a claim reads anything: whoever stops sending can wait for its end."""
    await connection.execute(_SHARED)


async def let_claims_end(runtime: Runtime) -> None:
    """Returns when every claim that began before is over; those that begin later see what was committed before this call."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_EXCLUSIVE)

    await in_transaction(runtime.engine, work)


async def why_shut(connection: AsyncConnection, partner: Partner) -> Held | None:
    """Why nothing of the partner may be sent now, or None. A stop of all sending is told before one of the partner."""
    if (halt := await halt_in_force(connection)) is not None:
        return Held(HeldFor.SENDING_HALTED, halt.words)
    if not partner.is_active:
        return Held(HeldFor.PARTNER_HALTED, f"the partner is {partner.state}: {partner.state_reason or 'no reason given'}")
    if (since := await away_since(connection, MIFOS_TOPIC, partner.id)) is not None:
        return Held(
            HeldFor.MIFOS_AWAY,
            f"the partner's Mifos X is away since {since.astimezone(NAIROBI):%d %b %H:%M}, and no loan is paid that was not read "
            "right before: it goes when that is back",
        )
    return await why_paused(connection, partner)


class SendingGate:
    """The gate as one sender of a partner sees it: looked at anew when the last look is half a second old."""

    def __init__(self, runtime: Runtime, partner_id: UUID) -> None:
        self._runtime = runtime
        self._partner_id = partner_id
        self._turn = asyncio.Lock()
        self._looked_at: float | None = None
        self._shut: Held | None = None

    async def shut(self, *, anew: bool = False) -> Held | None:
        """Why the next payout may not be sent; None if it may. Asked right before each. `anew`: by a look of this moment."""
        async with self._turn:
            now = asyncio.get_running_loop().time()  # how fresh a look is, not what time it is
            if anew or self._looked_at is None or now - self._looked_at >= FRESH:
                async with self._runtime.engine.connect() as connection:
                    self._shut = await why_shut(connection, await load_partner(connection, id=self._partner_id))
                self._looked_at = now
            return self._shut
