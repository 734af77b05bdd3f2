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


def next_probe(probe: int, pace: Pace, chance: random.Random) -> timedelta:
    """The wait before question number `probe` (1 is the first) whether what is away is back: as above, to a cap of its own."""
    longest = min(pace.outage_probe_cap, pace.outbox_retry_base * 2.0 ** min(probe - 1, 30))
    return timedelta(seconds=longest * (1 - 0.5 * chance.random()))
