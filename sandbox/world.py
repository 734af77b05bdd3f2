"""Everything one sandbox holds, in memory."""

from collections import Counter
from dataclasses import dataclass, field

from sandbox.airtouch.books import SmsBooks
from sandbox.clock import SandboxClock
from sandbox.daraja.books import MpesaBooks
from sandbox.deliveries import Deliveries
from sandbox.faults import Faults
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


def empty_world(seed: int) -> World:
    """A world with nobody in it."""
    return World(seed=seed, mpesa=MpesaBooks(seed), sms=SmsBooks(seed), faults=Faults(seed), deliveries=Deliveries())
