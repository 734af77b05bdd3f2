"""Instructions of claimed disbursements, written before anything is sent: new ones, and refused ones again under their own id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.candidates import Candidate
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Claimed:
    """A written instruction that this process, and no other, sends until `send_by`."""

    attempt_id: UUID
    disbursement_id: UUID
    originator_conversation_id: str
    loan_id: int
    loan_account_no: str
    tranche: int
    amount: Money
    principal: Money
    approved_on: date
    phone: str = field(repr=False)
    maybe_seen: bool
    send_by: datetime
    number_of: int | None  # the client whose number is to be read again, because it was read long ago
    expected_day_only: bool = False  # its product takes a disbursal under the loan's expected day only


# From its finding to `send_by`. A loan that waited longer (for the wallet, say) may have had its client's number corrected since.
_NUMBER_IS_FRESH = timedelta(minutes=15)

_NEW_ATTEMPTS = text(
    """
    INSERT INTO disbursement_attempts (id, partner_id, disbursement_id, number, originator_conversation_id, amount_cents, state,
                                       written_at, send_by)
    SELECT new.id, :partner_id, new.disbursement_id, new.number, new.originator, new.cents, 'written', :now, :send_by
    FROM unnest(CAST(:ids AS uuid[]), CAST(:disbursements AS uuid[]), CAST(:numbers AS integer[]), CAST(:originators AS text[]),
                CAST(:amounts AS bigint[])) AS new(id, disbursement_id, number, originator, cents)
    """
)
_SAME_AGAIN = text(
    """
    UPDATE disbursement_attempts SET state = 'written', sends = sends + 1, send_by = :send_by, query_at = NULL
    WHERE id = ANY(:ids) AND state = 'refused'
    """
)
_SENDING = text(
    """
    UPDATE disbursements SET state = 'sending', held_for = NULL, reason = NULL, tries = claimed.number,
           hold_id = coalesce(claimed.hold_id, disbursements.hold_id)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:numbers AS integer[]), CAST(:holds AS uuid[])) AS claimed(id, number, hold_id)
    WHERE disbursements.id = claimed.id
    """
)


async def write_instructions(
    connection: AsyncConnection,
    runtime: Runtime,
    partner_id: UUID,
    candidates: Sequence[Candidate],
    holds: Mapping[UUID, UUID | None],
) -> tuple[Claimed, ...]:
    """Writes the instruction of each candidate, all of one partner. `holds`: what holds the charges of a new one."""
    if not candidates:
        return ()
    now = runtime.clock.now()
    send_by = now + timedelta(seconds=runtime.pace.send_within)
    new = [(candidate, runtime.new_id(), runtime.new_id().hex) for candidate in candidates if candidate.open_instruction is None]
    if new:
        await connection.execute(
            _NEW_ATTEMPTS,
            {
                "partner_id": partner_id,
                "now": now,
                "send_by": send_by,
                "ids": [attempt_id for _, attempt_id, _ in new],
                "disbursements": [candidate.id for candidate, _, _ in new],
                "numbers": [candidate.tries + 1 for candidate, _, _ in new],
                "originators": [originator for _, _, originator in new],
                "amounts": [candidate.payout.cents for candidate, _, _ in new],
            },
        )
    again = [(candidate, candidate.open_instruction) for candidate in candidates if candidate.open_instruction is not None]
    if again:
        await connection.execute(_SAME_AGAIN, {"ids": [instruction.id for _, instruction in again], "send_by": send_by})
    numbered = [(candidate.id, candidate.tries + 1) for candidate, _, _ in new]
    numbered += [(candidate.id, instruction.number) for candidate, instruction in again]
    await connection.execute(
        _SENDING,
        {
            "ids": [disbursement_id for disbursement_id, _ in numbered],
            "numbers": [number for _, number in numbered],
            "holds": [holds.get(disbursement_id) for disbursement_id, _ in numbered],
        },
    )
    return (
        *(_claimed(candidate, attempt_id, originator, send_by, maybe_seen=False) for candidate, attempt_id, originator in new),
        *(
            _claimed(candidate, old.id, old.originator_conversation_id, send_by, maybe_seen=old.maybe_seen)
            for candidate, old in again
        ),
    )


def _claimed(candidate: Candidate, attempt_id: UUID, originator: str, send_by: datetime, *, maybe_seen: bool) -> Claimed:
    return Claimed(
        attempt_id=attempt_id,
        disbursement_id=candidate.id,
        originator_conversation_id=originator,
        loan_id=candidate.loan_id,
        loan_account_no=candidate.loan_account_no,
        tranche=candidate.tranche,
        amount=candidate.payout,
        principal=candidate.principal,
        approved_on=candidate.approved_on,
        phone=candidate.phone,
        maybe_seen=maybe_seen,
        send_by=send_by,
        number_of=candidate.client_id if send_by - candidate.detected_at > _NUMBER_IS_FRESH else None,
        expected_day_only=candidate.expected_day_only,
    )
