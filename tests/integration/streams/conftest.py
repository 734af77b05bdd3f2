"""Stored deliveries to work on."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from vault_core.inbox.receiving import Arrival, open_delivery_store
from vault_core.runtime import Runtime

Store = Callable[..., Awaitable[list[UUID]]]


@pytest.fixture
def store(runtime: Runtime) -> Store:
    """Stores deliveries with the given bodies and returns their ids, in order."""

    async def store_bodies(*bodies: bytes, purpose: str = "c2b_confirmation", reference: str | None = None) -> list[UUID]:
        arrivals = [
            Arrival(
                id=runtime.new_id(),
                partner_id=UUID(int=7),
                purpose=purpose,
                received_at=runtime.clock.now(),
                source_ip="127.0.0.1",
                content_type="application/json",
                path_reference=reference,
                headers={"x-fineract-entity": "LOAN"} if purpose == "mifos_hook" else {},
                body=body,
                parsed=True,
            )
            for body in bodies
        ]
        sweep_after = timedelta(seconds=runtime.pace.inbox_sweep_after)
        async with open_delivery_store(runtime.engine, runtime.sealer, sweep_after=sweep_after) as opened:
            await opened.store(arrivals)
            await opened.store(arrivals)  # a repeat after a broken connection
        return sorted(arrival.id for arrival in arrivals)

    return store_bodies
