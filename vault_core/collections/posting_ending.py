"""How the posting of a payment ended, over all of its parts. Decisions on values alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from vault_core.collections.pending import PendingCollection
from vault_core.money import ZERO, Money
from vault_core.postings.posting_outcome import GivenUp, InMifos, PostingOutcome, TryLater


@dataclass(frozen=True, slots=True)
class Posted:
    """All of it is in Mifos X."""


@dataclass(frozen=True, slots=True)
class RefusedForGood:
    """Nothing of it is in Mifos X, which refused it."""

    cause: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Only a person can tell how to go on: it may be in Mifos X, or a part of it is."""

    cause: str


Ending = Posted | RefusedForGood | Unclear | TryLater


def ending_of(one: PendingCollection, outcomes: Mapping[UUID, PostingOutcome]) -> Ending:
    """The ending of `one`, by what was answered for each of its living postings."""
    told = [outcomes[posting.id] for posting in one.postings if posting.id in outcomes]
    later = [outcome for outcome in told if isinstance(outcome, TryLater)]
    if later:
        return max(later, key=lambda outcome: (outcome.counted, outcome.wait is not None, outcome.wait))
    given_up = [outcome for outcome in told if isinstance(outcome, GivenUp)]
    unclear = next((outcome for outcome in given_up if not outcome.unposted), None)
    if unclear is not None:
        return Unclear(unclear.cause)
    made = Money(sum(one_.amount.cents for one_ in one.postings if isinstance(outcomes.get(one_.id), InMifos)))
    if made == one.amount:
        return Posted()
    cause = given_up[0].cause if given_up else one.refusal or "no posting of it is written down"
    if made == ZERO:
        return RefusedForGood(cause)
    return Unclear(f"{made} of it is in Mifos X, the rest was refused: {cause}")
