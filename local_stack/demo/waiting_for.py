"""Waiting until something is seen in the demo's day."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from vault_core.errors import Unreachable

T = TypeVar("T")

_LOOK_EVERY = 0.4
PATIENCE = 900.0  # seconds; on a busy machine a tick of Dagster can be lost


async def until(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """What `look` sees once it sees something. Raises Unreachable when it does not in a quarter of an hour."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if seen := await look():
            return seen
        await asyncio.sleep(_LOOK_EVERY)
    raise Unreachable(f"waited {PATIENCE:.0f} s for {what}")
