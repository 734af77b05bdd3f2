"""Waiting for a condition of another process, with a bound."""

import time
from collections.abc import Callable

from vault_core.errors import Unreachable

_LOOK_EVERY = 0.05


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str, every: float = _LOOK_EVERY) -> None:
    """Returns when `condition`, looked at `every` so many seconds, holds. Raises Unreachable naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:.0f} s for {what}, in vain")
        time.sleep(every)
