"""Instructions said to be paid after they were booked as failed: from then on only a person sends more money for the loan."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.attempts import Attempt


@dataclass(frozen=True, slots=True)
class LatePayment:
    """A failed attempt and the receipt that a later message names. The case about it is the caller's."""

    attempt: Attempt
    receipt: str

    @property
    def reason(self) -> str:
        """What to tell people."""
        return (
            f"M-Pesa says that instruction {self.attempt.number} was paid after all, receipt {self.receipt}, after it had said "
            "that it failed: look it up in the M-Pesa portal before anything more is paid for this loan"
        )


# A failed attempt with a receipt is one that may have been paid: claims (candidates.py) look for it, so that a further
# instruction that is under way now, and may fail, is not followed by yet another.
_MARK = text(
    """
    UPDATE disbursement_attempts SET receipt = late.receipt
    FROM unnest(CAST(:ids AS uuid[]), CAST(:receipts AS text[])) AS late(id, receipt)
    WHERE disbursement_attempts.id = late.id AND state = 'failed' AND disbursement_attempts.receipt IS NULL
    """
)
_STOP = text(
    """
    UPDATE disbursements SET state = 'needs_review', held_for = NULL, reason = stop.reason, batch_id = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS stop(id, reason)
    WHERE disbursements.id = stop.id AND state IN ('detected', 'held', 'ready', 'refused', 'failed')
    """
)


async def stop_for_late_payments(connection: AsyncConnection, late: Sequence[LatePayment]) -> None:
    """Marks the attempts, whose disbursements are locked, and gives those with nothing under way to a person. Repeats do nothing.

    The ledger keeps the failure that stands: which of the two messages is true is for the person to find out.
    """
    if not late:
        return
    await connection.execute(_MARK, {"ids": [item.attempt.id for item in late], "receipts": [item.receipt for item in late]})
    await connection.execute(
        _STOP,
        {
            "ids": [item.attempt.disbursement_id for item in late],
            "reasons": [item.reason for item in late],
        },
    )
