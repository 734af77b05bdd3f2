"""Waiting for a condition of another process, with a bound."""

import time
from collections.abc import Callable

from vault_core.errors import Unreachable

_LOOK_EVERY = 0.05


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Returns when `condition` holds; raises Unreachable naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unreachable(f"waited {seconds:.0f} s for {what}, in vain")
        time.sleep(_LOOK_EVERY)
