"""Where one disbursement stands, with its instructions: what a person who wants to do something about it must respect."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.states import AttemptState, State
from vault_core.errors import NotFound
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class InstructionFacts:
    """One instruction. `receipt` of a failed one: M-Pesa later said that it was paid."""

    id: UUID
    number: int
    originator_conversation_id: str
    state: AttemptState
    amount: Money
    written_at: datetime
    send_by: datetime
    maybe_seen: bool
    result_at: datetime | None
    result_code: str | None
    result_text: str | None
    receipt: str | None
    queries: int
    query_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it is neither dead nor paid."""
        return self.state not in {AttemptState.FAILED, AttemptState.PAID}

    @property
    def may_have_moved_money(self) -> bool:
        """Whether it is open and M-Pesa may have it."""
        return self.is_open and (self.state is not AttemptState.REFUSED or self.maybe_seen)


@dataclass(frozen=True, slots=True)
class Standing:
    """One disbursement, locked if it was read to be changed. `proposed_by`: whose resolution waits for a second person."""

    id: UUID
    partner_id: UUID
    partner: str
    partner_state: str
    loan_id: int
    loan_account_no: str
    state: State
    held_for: HeldFor | None
    reason: str | None
    payout: Money
    due_at: datetime
    receipt: str | None
    hold_id: UUID | None
    instructions: tuple[InstructionFacts, ...]
    proposed_by: str | None
    paid_amount: Money | None = None  # what M-Pesa paid, where that is not what was instructed and nobody has settled it

    @property
    def loan(self) -> str:
        """As people know it."""
        return f"loan {self.loan_account_no} of {self.partner}"

    @property
    def open_instruction(self) -> InstructionFacts | None:
        """The one that is neither dead nor paid."""
        return next((one for one in self.instructions if one.is_open), None)

    @property
    def paid_instruction(self) -> InstructionFacts | None:
        """The one that is booked as paid."""
        return next((one for one in self.instructions if one.state is AttemptState.PAID), None)

    @property
    def said_paid_late(self) -> InstructionFacts | None:
        """The one that failed and was then said to be paid."""
        return next((one for one in self.instructions if one.state is AttemptState.FAILED and one.receipt is not None), None)


_READ = text(
    """
    SELECT d.id, d.partner_id, p.name AS partner, p.state AS partner_state, d.loan_id, d.loan_account_no, d.state, d.held_for,
           d.reason, d.payout_cents, d.due_at, d.receipt, d.hold_id,
           (SELECT r.proposed_by FROM disbursement_resolutions r
            WHERE r.disbursement_id = d.id AND r.state = 'proposed' LIMIT 1) AS proposed_by,
           (SELECT l.amount_cents FROM rail_lines l JOIN disbursement_attempts a ON a.receipt = l.receipt AND a.state = 'paid'
            WHERE a.disbursement_id = d.id AND l.rail = 'mpesa_b2c' AND l.partner_id = d.partner_id AND d.state = 'needs_review'
                  AND l.amount_cents <> a.amount_cents
                  AND NOT EXISTS (SELECT FROM core_postings c WHERE c.kind = 'disburse' AND c.subject_id = d.id
                                  AND c.state <> 'undone')) AS paid_cents
    FROM disbursements d JOIN partners p ON p.id = d.partner_id WHERE d.id = :id
    """
)
_LOCK = text("SELECT FROM disbursements WHERE id = :id FOR UPDATE")
_INSTRUCTIONS = text(
    """
    SELECT id, number, originator_conversation_id, state, amount_cents, written_at, send_by, maybe_seen, result_at, result_code,
           result_text, receipt, queries, query_at
    FROM disbursement_attempts WHERE disbursement_id = :id ORDER BY number
    """
)


async def read_standing(connection: AsyncConnection, disbursement_id: UUID, *, lock: bool = False) -> Standing:
    """The disbursement as it stands; locked until the end of the transaction if asked. Raises NotFound.

    Whoever changes an instruction has its disbursement locked, so the lock covers the instructions, too.
    """
    if lock:  # by itself: what one statement reads beside the row that it waits for is as it was before the wait
        await connection.execute(_LOCK, {"id": disbursement_id})
    row = (await connection.execute(_READ, {"id": disbursement_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no disbursement {disbursement_id}")
    instructions = [
        InstructionFacts(
            id=one.id,
            number=one.number,
            originator_conversation_id=one.originator_conversation_id,
            state=AttemptState(one.state),
            amount=Money(one.amount_cents),
            written_at=one.written_at,
            send_by=one.send_by,
            maybe_seen=one.maybe_seen,
            result_at=one.result_at,
            result_code=one.result_code,
            result_text=one.result_text,
            receipt=one.receipt,
            queries=one.queries,
            query_at=one.query_at,
        )
        for one in await connection.execute(_INSTRUCTIONS, {"id": disbursement_id})
    ]
    return Standing(
        id=row.id,
        partner_id=row.partner_id,
        partner=row.partner,
        partner_state=row.partner_state,
        loan_id=row.loan_id,
        loan_account_no=row.loan_account_no,
        state=State(row.state),
        held_for=None if row.held_for is None else HeldFor(row.held_for),
        reason=row.reason,
        payout=Money(row.payout_cents),
        due_at=row.due_at,
        receipt=row.receipt,
        hold_id=row.hold_id,
        instructions=tuple(instructions),
        proposed_by=row.proposed_by,
        paid_amount=None if row.paid_cents is None else Money(row.paid_cents),
    )
