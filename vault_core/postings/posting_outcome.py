"""What became of a posting to Mifos X, for whoever intended it."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class InMifos:
    """It is posted, under this transaction."""

    transaction_id: int


@dataclass(frozen=True, slots=True)
class TryLater:
    """Not known to be posted. `wait` None: by the caller's schedule. Not `counted`: nothing was sent, Mifos X is away or slow."""

    cause: str
    wait: timedelta | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Trying again is of no use: a person must look. `unposted`: it is certain that nothing was posted."""

    cause: str
    unposted: bool = False


PostingOutcome = InMifos | TryLater | GivenUp
