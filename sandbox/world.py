"""Everything one sandbox holds, in memory."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from sandbox.airtouch.books import SmsBooks
from sandbox.asgi import Request
from sandbox.clock import SandboxClock
from sandbox.daraja.books import MpesaBooks
from sandbox.deliveries import Deliveries
from sandbox.faults import Faults
from sandbox.journal import Journal
from sandbox.mifos.host import MifosHost
from sandbox.settings import Settings


@dataclass(slots=True)
class World:
    """The three services, their faults and their settings."""

    seed: int
    mpesa: MpesaBooks
    sms: SmsBooks
    faults: Faults
    deliveries: Deliveries
    mifos: dict[str, MifosHost] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    clock: SandboxClock = field(default_factory=SandboxClock)
    calls: Counter[str] = field(default_factory=Counter)
    journal: Journal = field(default_factory=lambda: Journal(None))

    async def pause(self, milliseconds: float) -> None:
        """Lets time pass, but not while a journal is done again."""
        if milliseconds and self.clock.pinned is None:
            await asyncio.sleep(milliseconds / 1000)

    def note(self, request: Request) -> None:
        """Keeps a request that is about to change something."""
        self.journal.note(request, self.clock)


def empty_world(seed: int, journal: Journal) -> World:
    """A world with nobody in it, whose acts go to `journal`."""
    deliveries = Deliveries(told=journal.told)
    return World(seed, MpesaBooks(seed), SmsBooks(seed), Faults(seed), deliveries, journal=journal)
