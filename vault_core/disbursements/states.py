"""The states of a disbursement and the moves between them (DESIGN.md section 4), as one table.

detected        seen in Mifos X, not yet examined or changed there since
held            waits for a cause to go (`held_for` says which)
ready           may be sent now
sending         an instruction is written and being sent
accepted        M-Pesa took the instruction; its result is awaited
unknown         it may or may not have been taken; evidence is awaited
refused         not taken, the same instruction goes again at `due_at`
failed          definitely not paid, a new instruction follows at `due_at`
paid            the money moved; to be posted to Mifos X
posting         being posted
disbursed       posted: the end, unless two people find out that it was not paid (taking_back.py)
needs_review    with a person, who finds a case; a late result still counts
"""

from enum import StrEnum

from vault_core.errors import Conflict


class State(StrEnum):
    """As in the check of `disbursements.state`."""

    DETECTED = "detected"
    HELD = "held"
    READY = "ready"
    SENDING = "sending"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    FAILED = "failed"
    PAID = "paid"
    POSTING = "posting"
    DISBURSED = "disbursed"
    NEEDS_REVIEW = "needs_review"


class AttemptState(StrEnum):
    """Of one B2C instruction. All but `failed` may still move money, or did."""

    WRITTEN = "written"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    PAID = "paid"
    FAILED = "failed"


_ANY_VERDICT = frozenset({State.PAID, State.FAILED, State.HELD, State.NEEDS_REVIEW})

# A result may come before the answer, after a person took over, or while the same instruction waits to be sent again: that is
# why `paid` can be reached from every state in which an instruction exists that is not known to be dead.
MOVES: dict[State, frozenset[State]] = {
    State.DETECTED: frozenset({State.HELD, State.READY, State.NEEDS_REVIEW}),
    State.HELD: frozenset({State.HELD, State.READY, State.DETECTED, State.UNKNOWN}) | _ANY_VERDICT,
    State.READY: frozenset({State.SENDING, State.UNKNOWN, State.READY}) | _ANY_VERDICT,
    State.SENDING: frozenset({State.ACCEPTED, State.UNKNOWN, State.REFUSED, State.DETECTED, State.READY}) | _ANY_VERDICT,
    State.ACCEPTED: frozenset({State.UNKNOWN}) | _ANY_VERDICT,
    State.UNKNOWN: frozenset({State.UNKNOWN, State.READY}) | _ANY_VERDICT,
    State.REFUSED: frozenset({State.READY, State.UNKNOWN}) | _ANY_VERDICT,
    State.FAILED: frozenset({State.READY, State.NEEDS_REVIEW, State.HELD}),
    State.PAID: frozenset({State.POSTING, State.NEEDS_REVIEW}),
    State.POSTING: frozenset({State.POSTING, State.DISBURSED, State.NEEDS_REVIEW}),
    State.NEEDS_REVIEW: frozenset({State.UNKNOWN, State.READY, State.DETECTED, State.POSTING, State.DISBURSED}) | _ANY_VERDICT,
    State.DISBURSED: frozenset({State.NEEDS_REVIEW}),
}


def may_move(before: State, after: State) -> bool:
    """Whether the table allows the move."""
    return after in MOVES[before]


def require_move(before: State, after: State, subject: str) -> None:
    """Raises Conflict if the table forbids the move of `subject` (a disbursement, as people know it)."""
    if not may_move(before, after):
        raise Conflict(f"{subject} is {before} and cannot become {after}")
