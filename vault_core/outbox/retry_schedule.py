"""When a failed call is made again."""

import random
from datetime import timedelta

from vault_core.settings import Pace


def next_wait(tries: int, pace: Pace, chance: random.Random) -> timedelta:
    """The wait after try number `tries` (1 is the first): doubling from the base to the cap, with up to half taken off by chance.

    The jitter keeps a thousand calls that failed together from coming back together.
    """
    longest = min(pace.outbox_retry_cap, pace.outbox_retry_base * 2.0 ** min(tries - 1, 30))
    return timedelta(seconds=longest * (1 - 0.5 * chance.random()))
