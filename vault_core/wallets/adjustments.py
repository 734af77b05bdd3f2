"""Wallets put right by hand: what is proposed, what became of it, and the rules of proposing and deciding.

One person proposes with a reason and a reference, another one approves; the table itself refuses an approval by the proposer
(revision 0015). Only an approved adjustment is posted. One that takes money holds it meanwhile, so that it is still there.
A top-up too large for one person (topup.py) waits here as well.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import business_day
from vault_core.errors import InvalidInput, NotFound
from vault_core.money import Money

AdjustmentKind = Literal["correction", "reversal", "topup"]
AdjustmentState = Literal["proposed", "approved", "rejected", "lapsed"]

LAPSES_AFTER = timedelta(days=7)  # a proposal that nobody decides on; what it held is free again then
_LARGEST_CENTS = 10**13  # as of a top-up: beyond it somebody has typed a phone number
_LONGEST_REFERENCE = 64

# Kinds of transactions that a person may undo here: those that only moved money between the house and a wallet.
_REVERSIBLE = frozenset({"topup", "charges", "sms", "correction"})


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One adjustment. `amount` is what the wallet gains; it loses by a negative one. `original` is what a reversal undoes."""

    id: UUID
    partner_id: UUID
    partner: str
    kind: AdjustmentKind
    amount: Money
    original: UUID | None
    reference: str
    reason: str
    proposed_by: str
    proposed_at: datetime
    lapses_at: datetime
    hold_id: UUID | None
    state: AdjustmentState
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None
    transaction_id: UUID | None

    @property
    def key(self) -> str:
        """The key of its hold and, but for a top-up, of its posting."""
        return f"adjustment:{self.id}"


_SELECT = """
    SELECT w.*, p.name AS partner FROM wallet_adjustments w JOIN partners p ON p.id = w.partner_id
"""
_ONE = text(f"{_SELECT} WHERE w.id = :id")
_LOCKED = text(f"{_SELECT} WHERE w.id = :id FOR UPDATE OF w")
_LATEST = text(
    f"""
    {_SELECT}
    WHERE (CAST(:partner_id AS uuid) IS NULL OR w.partner_id = :partner_id) AND (w.state = 'proposed' OR NOT :open_only)
    ORDER BY w.state <> 'proposed', w.proposed_at DESC, w.id DESC LIMIT :most
    """
)


async def load_adjustment(connection: AsyncConnection, adjustment_id: UUID, *, lock: bool = False) -> Adjustment:
    """The adjustment of that id, locked for the caller's transaction if asked. Raises NotFound."""
    row = (await connection.execute(_LOCKED if lock else _ONE, {"id": adjustment_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no adjustment {adjustment_id}: `vault wallet adjustments` lists them")
    return _adjustment(row)


async def list_adjustments(
    connection: AsyncConnection, partner_id: UUID | None = None, *, open_only: bool = False, most: int = 100
) -> list[Adjustment]:
    """The latest adjustments of one partner or of all: those that wait for a second person first, then the newest."""
    rows = await connection.execute(_LATEST, {"partner_id": partner_id, "open_only": open_only, "most": most})
    return [_adjustment(row) for row in rows]


def why_not_reversed(kind: str, reverses: UUID | None) -> str | None:
    """Why a transaction of `kind` is not reversed by hand; None if it may be."""
    if reverses is not None:
        return "it is a reversal itself: propose a correction if what it undid was right after all"
    if kind not in _REVERSIBLE:
        return (
            f"{kind} tells what M-Pesa or Mifos X did, and undoing it in our books would not undo it there; what can be reversed "
            f"here: {', '.join(sorted(_REVERSIBLE))}"
        )
    return None


def why_not_decided(adjustment: Adjustment, now: datetime) -> str | None:
    """Why nobody can approve or reject it any more; None if it waits for that."""
    if adjustment.state in ("approved", "rejected"):
        return f"it was {adjustment.state} by {adjustment.decided_by}"
    if adjustment.state == "lapsed" or adjustment.lapses_at <= now:
        return f"it lapsed on {business_day(adjustment.lapses_at)}, undecided: propose it anew"
    return None


def why_not_approved(adjustment: Adjustment, actor: str, now: datetime) -> str | None:
    """Why `actor` cannot approve it; None if they can."""
    undecidable = why_not_decided(adjustment, now)
    if undecidable is None and actor == adjustment.proposed_by:
        return f"{actor} proposed it: another login must approve it"
    return undecidable


def checked_words(amount: Money, reference: str, reason: str) -> tuple[str, str]:
    """Reference and reason without blanks around them. Raises InvalidInput for what cannot be proposed."""
    reference, reason = reference.strip(), reason.strip()
    if not 0 < abs(amount.cents) <= _LARGEST_CENTS:
        raise InvalidInput(f"{amount} is not an amount to put a wallet right by")
    if not reference or len(reference) > _LONGEST_REFERENCE or not reference.isprintable():
        raise InvalidInput(
            "an adjustment needs the reference of what it follows from (a ticket, a letter): "
            f"1-{_LONGEST_REFERENCE} printable characters"
        )
    if not reason:
        raise InvalidInput("an adjustment needs a reason: the second person and the auditors read it")
    return reference, reason


def _adjustment(row: Row[Any]) -> Adjustment:
    return Adjustment(
        id=row.id,
        partner_id=row.partner_id,
        partner=row.partner,
        kind=row.kind,
        amount=Money(row.amount_cents),
        original=row.original_transaction,
        reference=row.reference,
        reason=row.reason,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        lapses_at=row.lapses_at,
        hold_id=row.hold_id,
        state=row.state,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        decision_note=row.decision_note,
        transaction_id=row.transaction_id,
    )
