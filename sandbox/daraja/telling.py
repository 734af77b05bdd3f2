"""Sending a result on its way as the switches want it: late, behind a queue time-out, or twice."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.deliveries import Delivery
from sandbox.world import World


@dataclass(frozen=True, slots=True)
class Switches:
    """The faults of one kind of result, by their names; `fires` says whether one is on for this result."""

    fires: Callable[[str], bool]
    timeout_first: str
    late: str
    twice: str


def tell_result(world: World, result: Delivery, timeout: Delivery, switches: Switches) -> int:
    """Posts `result` later, and `timeout` before it where that is wanted. Returns its delay in milliseconds."""
    settings = world.settings
    delay = settings.result_delay_ms
    if switches.fires(switches.timeout_first):
        world.deliveries.post_later(timeout, delay)
        delay += settings.late_ms
    elif switches.fires(switches.late):
        delay += settings.late_ms
    world.deliveries.post_later(result, delay)
    if switches.fires(switches.twice):
        world.deliveries.post_later(result, delay + settings.result_delay_ms)
    return delay
