"""Instructions with their disbursements, read and locked for a verdict or an answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.states import AttemptState, State
from vault_core.disbursements.verdicts import Instruction
from vault_core.money import Money


@dataclass(slots=True)
class Attempt:
    """One instruction and the disbursement it belongs to, both locked. Changed in memory as a batch is judged in order."""

    id: UUID
    number: int
    originator_conversation_id: str
    conversation_id: str | None
    amount: Money
    state: AttemptState
    written_at: datetime
    sends: int
    send_by: datetime
    result_code: str | None
    receipt: str | None
    queries: int
    disbursement_id: UUID
    disbursement_state: State
    held_by_person: bool
    partner_id: UUID
    loan_id: int
    loan_account_no: str
    tranche: int | None  # of a tranche loan: which
    principal: Money
    approved_on: date
    tries: int
    hold_id: UUID | None
    taken_back: int  # how often a payment that was booked for the disbursement was taken back (taking_back.py)
    phone_sealed: bytes | None = field(repr=False)
    client_name_sealed: bytes | None = field(repr=False)

    @property
    def loan(self) -> str:
        """The loan as people know it, and the subject of cases about it."""
        return f"loan {self.loan_account_no}"

    @property
    def again(self) -> str:
        """What ends the keys of all that is booked after a payment was taken back."""
        return again(self.taken_back)

    @property
    def case_subject(self) -> str:
        """The stable subject of a case about this disbursement."""
        return f"disbursement {self.disbursement_id}"

    def as_instruction(self) -> Instruction:
        """What the verdict depends on."""
        return Instruction(self.state, self.amount, self.receipt, self.result_code, acknowledged=self.conversation_id is not None)

    def facts(self) -> dict[str, Any]:
        """What a person needs to know of it in a case: no phone, no name."""
        return {
            "loan_id": self.loan_id,
            "loan_account_no": self.loan_account_no,
            "disbursement_id": str(self.disbursement_id),
            "attempt": self.number,
            "originator_conversation_id": self.originator_conversation_id,
            "conversation_id": self.conversation_id,
            "amount": str(self.amount),
            "written_at": self.written_at.isoformat(),
            "sends": self.sends,
            "questions_asked": self.queries,
        }


_COLUMNS = """
    a.id, a.number, a.originator_conversation_id, a.conversation_id, a.amount_cents, a.state, a.written_at, a.sends, a.send_by,
    a.result_code, a.receipt, a.queries, a.disbursement_id, d.state AS disbursement_state,
    coalesce(d.held_for = 'by_person', false) AS held_by_person, d.partner_id, d.loan_id, d.loan_account_no,
    CASE WHEN d.of_tranches THEN d.tranche END AS tranche, d.principal_cents, d.approved_on, d.tries, d.hold_id, d.taken_back,
    d.phone_sealed, d.client_name_sealed
"""

# In the order of the disbursements, as every transaction of this capability locks them.
_LOCK = text(
    f"""
    SELECT {_COLUMNS} FROM disbursement_attempts a JOIN disbursements d ON d.id = a.disbursement_id
    WHERE a.id = ANY(:ids) OR a.originator_conversation_id = ANY(:originators) OR a.conversation_id = ANY(:conversations)
    ORDER BY d.id, a.number FOR UPDATE OF d, a
    """  # noqa: S608 - the columns stand above
)


async def lock_attempts(
    connection: AsyncConnection,
    *,
    ids: Iterable[UUID] = (),
    originators: Iterable[str] = (),
    conversations: Iterable[str] = (),
) -> list[Attempt]:
    """The attempts with one of these ids, locked with their disbursements until the end of the transaction."""
    rows = await connection.execute(
        _LOCK, {"ids": list(ids), "originators": list(originators), "conversations": list(conversations)}
    )
    return [_attempt(row) for row in rows]


class AttemptIndex:
    """Finds the attempt that a message is about: by originator conversation id, conversation id, then our own reference."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._by_originator = {attempt.originator_conversation_id: attempt for attempt in attempts}
        self._by_conversation = {attempt.conversation_id: attempt for attempt in attempts if attempt.conversation_id}
        self._by_id = {attempt.id: attempt for attempt in attempts}

    def find(
        self, partner_id: UUID, *, originator: str | None = None, conversation: str | None = None, attempt_id: UUID | None = None
    ) -> Attempt | None:
        """The attempt, if it is this partner's."""
        found = (
            self._by_originator.get(originator or "")
            or self._by_conversation.get(conversation or "")
            or (self._by_id.get(attempt_id) if attempt_id else None)
        )
        return found if found is not None and found.partner_id == partner_id else None


def again(taken_back: int) -> str:
    """What ends the keys of a disbursement that had `taken_back` payments taken back: nothing, mostly."""
    return f":{taken_back + 1}" if taken_back else ""


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        number=row.number,
        originator_conversation_id=row.originator_conversation_id,
        conversation_id=row.conversation_id,
        amount=Money(row.amount_cents),
        state=AttemptState(row.state),
        written_at=row.written_at,
        sends=row.sends,
        send_by=row.send_by,
        result_code=row.result_code,
        receipt=row.receipt,
        queries=row.queries,
        disbursement_id=row.disbursement_id,
        disbursement_state=State(row.disbursement_state),
        held_by_person=row.held_by_person,
        partner_id=row.partner_id,
        loan_id=row.loan_id,
        loan_account_no=row.loan_account_no,
        tranche=row.tranche,
        principal=Money(row.principal_cents),
        approved_on=row.approved_on,
        tries=row.tries,
        hold_id=row.hold_id,
        taken_back=row.taken_back,
        phone_sealed=row.phone_sealed,
        client_name_sealed=row.client_name_sealed,
    )
