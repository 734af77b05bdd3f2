"""What one process runs with: its composition root builds one of these and hands it, or parts of it, down as arguments."""

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.clock import Clock, SystemClock
from vault_core.database import open_async_engine
from vault_core.fault_points import arm
from vault_core.http_pool import PooledClient
from vault_core.identifiers import IdMaker, id_maker
from vault_core.secrets import Sealer
from vault_core.settings import Pace, Settings


@dataclass(frozen=True, slots=True)
class Runtime:
    """Engine, clock, ids, chance, sealer and the shared HTTP connection pool of one process."""

    engine: AsyncEngine
    clock: Clock
    new_id: IdMaker
    chance: random.Random  # jitter only; secrets come from the operating system
    sealer: Sealer
    http: httpx.AsyncClient
    pace: Pace
    public_url: str
    portal_url: str | None = None  # base of the partners' portal, or none is run


@asynccontextmanager
async def open_runtime(settings: Settings, *, pool_size: int = 10) -> AsyncIterator[Runtime]:
    """A Runtime built from `settings`; its connections are closed at the end.

    Silences httpx's line for each request: a URL may hold what a payer typed, a phone or a name.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    arm(settings.fault_point)
    clock = SystemClock(settings.clock_offset)
    engine = open_async_engine(settings.database_url, pool_size=pool_size)
    http = PooledClient(timeout=httpx.Timeout(settings.pace.http_timeout, connect=10.0))
    try:
        yield Runtime(
            engine=engine,
            clock=clock,
            new_id=id_maker(clock),
            chance=random.Random(),  # noqa: S311 - jitter, not secrets
            sealer=settings.sealer,
            http=http,
            pace=settings.pace,
            public_url=settings.public_url,
            portal_url=settings.portal_url,
        )
    finally:
        await http.aclose()
        await engine.dispose()
