"""Noticing that a worker no longer takes messages that are there.

faust-streaming has been seen to stop consuming after a broker outage or a rebalance without ending (docs/architecture.md). A
worker that stalls ends itself: the supervisor starts it again, and it goes on from its last commit.
"""

import os
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TypeVar

import faust
import structlog

log = structlog.get_logger(__name__)

Partition = TypeVar("Partition", bound=Hashable)

# Above the longest a batch may rightly take: a write to Mifos X may last 75 s, and what may pass is tried again for 60 s.
STALLED_AFTER = 300.0
_STOPPED_BY_THE_EDGE = 70


class StallWatch:
    """Remembers since when each partition has had messages waiting and no progress. Times are a monotonic clock's seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[Hashable, tuple[int, float]] = {}

    def stalled(self, done: Mapping[Partition, int], ends: Mapping[Partition, int], now: float) -> list[Partition]:
        """The partitions whose next offset to do (`done`) has stayed below their end for longer than the limit, as of `now`.

        A partition that is no longer ours is forgotten.
        """
        self._since = {partition: seen for partition, seen in self._since.items() if partition in done}
        found = []
        for partition, offset in done.items():
            before, since = self._since.get(partition, (None, now))
            waiting = ends.get(partition, offset) > offset
            if not waiting or before != offset:
                self._since[partition] = (offset, now)
            elif now - since > self._limit:
                found.append(partition)
        return found


def stall_job(app: faust.App, *, monotonic: Callable[[], float] = time.monotonic) -> Callable[[], Awaitable[int]]:
    """A job that ends the process once a partition of `app` has stalled."""
    watch = StallWatch(STALLED_AFTER)

    async def look() -> int:
        consumer = app.consumer
        partitions = consumer.assignment()
        ends = await consumer.highwaters(*partitions) if partitions else {}
        committed = app.monitor.tp_committed_offsets
        done = {partition: committed.get(partition) or await consumer.position(partition) or 0 for partition in partitions}
        if stalled := watch.stalled(done, ends, monotonic()):
            log.critical("worker stopped", reason="no progress", partitions=[f"{tp.topic}/{tp.partition}" for tp in stalled])
            os._exit(_STOPPED_BY_THE_EDGE)
        return 0

    return look
