"""A payout that is known to be paid, and by what."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.evidence import SaysPaid


@dataclass(frozen=True, slots=True)
class Payment:
    """A payout that the evidence says is paid. `differs`: M-Pesa's amount is not the instruction's."""

    attempt: Attempt
    paid: SaysPaid
    differs: bool
    event_id: UUID
    seen_at: datetime

    @property
    def paid_at(self) -> datetime:
        """When the money moved, as M-Pesa says; when we learnt of it, if it does not say."""
        return self.paid.at or self.seen_at
