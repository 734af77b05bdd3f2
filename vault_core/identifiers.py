"""Identifiers: UUIDv7, made from the clock we are given, so that ids sort by time and partitions can be cut by id."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils import uuid7

from vault_core.clock import Clock

IdMaker = Callable[[], UUID]


def id_maker(clock: Clock) -> IdMaker:
    """A maker of UUIDv7 whose time part is `clock`'s. Random below the millisecond; unique across processes."""

    def make() -> UUID:
        moment = clock.now()
        # Not their compat module, which makes the same UUID in twice the time.
        return UUID(int=uuid7(nanoseconds=int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000).int)

    return make


def lowest_id_at(moment: datetime) -> UUID:
    """The lowest UUIDv7 of the millisecond of `moment`: the bound that cuts a partition of a table keyed by such ids."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80)
