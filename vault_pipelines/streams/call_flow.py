"""Outbox calls made without a break: while one of a partner ends, the next is under way already.

A batch that is waited for leaves the other side idle until its slowest call has ended, again and again. So calls are not made
batch by batch: what Kafka brings waits here, in a queue a partner, and small groups of it are claimed and made side by side. A
call that waits here is claimed by nobody: should this process end, the relay offers it again like any message that was lost.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from vault_core.fault_points import reach
from vault_core.outbox.calls import offer_again
from vault_pipelines.streams.edge import MAY_PASS, CallHandler, Edge, Message, cause_of

log = structlog.get_logger(__name__)

SMALLEST_GROUP, LARGEST_GROUP = 40, 80  # calls that share a claim, if so many wait
SIDE_BY_SIDE = 2  # groups of a partner under way at once
_SLOW_AFTER = 5.0  # seconds: a group that takes longer waits for some slow call, and makes room for the next one
_MOST_GROUPS = 16  # of a partner, the slow ones among them
_MOST_WAITING = 10_000  # of a partner; what is beyond them the relay offers again
_STOPS_WITHIN = 10.0


@dataclass(slots=True)
class _Partner:
    """The calls of one partner: those that wait, in order, and the ordering keys of those under way."""

    waiting: dict[UUID, bytes | None] = field(default_factory=dict)
    under_way: dict[UUID, bytes | None] = field(default_factory=dict)
    groups: int = 0
    slow: int = 0


class CallFlow:
    """The calls of one topic. Those of one ordering key are made one after another, as the outbox asks."""

    def __init__(self, edge: Edge, topic: str, handlers: Mapping[str, CallHandler]) -> None:
        self._edge, self._topic, self._handlers = edge, topic, handlers
        self._partners: dict[bytes, _Partner] = {}
        self._groups: set[asyncio.Task[None]] = set()
        self._stopped = False
        edge.before_close(self.stop)

    async def take(self, messages: Sequence[Message]) -> None:
        """Has the calls that `messages` name made, each as soon as its turn comes; returns before they are."""
        reach("before take", self._topic)
        told = set()
        for call_id, key in await self._edge.read_calls(self._topic, messages):
            name = (key or b"").partition(b":")[0]  # an ordering key of this topic begins with its partner
            partner = self._partners.setdefault(name, _Partner())
            if call_id not in partner.under_way and len(partner.waiting) < _MOST_WAITING:
                partner.waiting.setdefault(call_id, key)
            told.add(name)
        for name in told:
            self._begin(name, self._partners[name])
        reach("after take", self._topic)

    async def stop(self) -> None:
        """Begins nothing more, has what waits offered again, and waits a little for what is under way."""
        self._stopped = True
        waiting = [call_id for partner in self._partners.values() for call_id in partner.waiting]
        if waiting:
            try:
                await offer_again(self._edge.runtime, waiting)
            except MAY_PASS as error:
                log.warning("calls left to the relay", topic=self._topic, calls=len(waiting), cause=cause_of(error))
        if self._groups:
            await asyncio.wait(self._groups, timeout=_STOPS_WITHIN)
        for group in self._groups:
            group.cancel()
        await asyncio.gather(*self._groups, return_exceptions=True)

    def _begin(self, name: bytes, partner: _Partner) -> None:
        while not self._stopped and partner.groups - partner.slow < SIDE_BY_SIDE and partner.groups < _MOST_GROUPS:
            group = next_group(partner.waiting, set(partner.under_way.values()))
            if not group:
                break
            for call_id in group:
                partner.under_way[call_id] = partner.waiting.pop(call_id)
            partner.groups += 1
            task = asyncio.create_task(self._make(name, partner, group))
            self._groups.add(task)
            task.add_done_callback(self._groups.discard)
        if not partner.waiting and not partner.groups:
            self._partners.pop(name, None)

    async def _make(self, name: bytes, partner: _Partner, group: Sequence[UUID]) -> None:
        loop, slow = asyncio.get_running_loop(), False

        def make_room() -> None:
            nonlocal slow
            slow = True
            partner.slow += 1
            self._begin(name, partner)

        timer = loop.call_later(_SLOW_AFTER, make_room)
        try:
            await self._edge.make(self._topic, group, self._handlers)
        except Exception as error:  # noqa: BLE001 - the edge of a stream; the rows are as they were, and offered again
            log.error("calls left to the relay", topic=self._topic, calls=len(group), cause=cause_of(error))  # noqa: TRY400
        finally:
            timer.cancel()
            partner.groups -= 1
            partner.slow -= slow
            for call_id in group:
                del partner.under_way[call_id]
            self._begin(name, partner)


def next_group(waiting: Mapping[UUID, bytes | None], busy: set[bytes | None]) -> list[UUID]:
    """The calls to make next, in order, of each ordering key the first, none of a key that is busy; if many wait, a share."""
    most = min(LARGEST_GROUP, max(SMALLEST_GROUP, len(waiting) // SIDE_BY_SIDE))
    taken: list[UUID] = []
    keys = {key for key in busy if key is not None}
    for call_id, key in waiting.items():
        if len(taken) == most:
            break
        if key not in keys:
            taken.append(call_id)
        if key is not None:
            keys.add(key)
    return taken
