"""What came of a call that changes something outside: Accepted, Refused or Unknown (DESIGN.md, second sentence).

Unknown is not failure. It is resolved by evidence: a result, a query, a read-back, a statement line or a person.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Refusal(StrEnum):
    """What a refusal asks of us."""

    RETRY_LATER = "retry_later"  # nothing happened; the same instruction may be sent again later
    TERMINAL = "terminal"  # nothing happened and nothing will, as this instruction stands
    HALT = "halt"  # nothing happened, and every next one would meet the same: stop the queue, tell people


@dataclass(frozen=True, slots=True)
class Accepted(Generic[T]):
    """The other side took it; `value` is what it said."""

    value: T


@dataclass(frozen=True, slots=True)
class Refused:
    """The other side definitely did not do it. `code` is its own code, `reason` its own words (no secrets, no phones)."""

    code: str
    reason: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened. `cause` says what we saw; `code` is of a refusal that settles nothing."""

    cause: str
    code: str | None = None


Outcome = Accepted[T] | Refused | Unknown
