"""The rows of what people stated about payouts: written once, decided once (functions/10_resolutions.sql)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.resolution_rules import Statement
from vault_core.disbursements.standing import Standing
from vault_core.errors import NotFound
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person stated about one instruction. `effect`: what applying it did; None: it is not applied."""

    id: UUID
    partner: str
    loan_account_no: str
    disbursement_id: UUID
    attempt_id: UUID
    number: int
    verdict: str  # 'paid' or 'not_paid'
    receipt: str | None
    amount: Money
    paid_at: datetime | None
    evidence: str
    second_person: bool
    overturns: str | None  # the verdict that was booked when it was stated, and that it is against
    proposed_by: str
    proposed_at: datetime
    state: str
    effect: str | None


_WRITE = text(
    """
    INSERT INTO disbursement_resolutions (id, partner_id, disbursement_id, attempt_id, verdict, receipt, amount_cents, paid_at,
                                          evidence, second_person, overturns, proposed_by, proposed_at)
    VALUES (:id, :partner_id, :disbursement_id, :attempt_id, :verdict, :receipt, :amount, :paid_at, :evidence, :second_person,
            :overturns, :actor, :now)
    """
)
_DECIDE = text(
    """
    UPDATE disbursement_resolutions
    SET state = :state, decided_by = :actor, decided_at = :now, decision_note = :note, effect = :effect WHERE id = :id
    """
)
_COLUMNS = """
    SELECT r.*, p.name AS partner, d.loan_account_no, a.number, a.amount_cents AS instructed_cents
    FROM disbursement_resolutions r JOIN partners p ON p.id = r.partner_id JOIN disbursements d ON d.id = r.disbursement_id
    JOIN disbursement_attempts a ON a.id = r.attempt_id
"""
_OPEN = text(f"{_COLUMNS} WHERE r.state = 'proposed' ORDER BY r.proposed_at, r.id")
_OPEN_OF = text(f"{_COLUMNS} WHERE r.state = 'proposed' AND r.disbursement_id = :id ORDER BY r.proposed_at, r.id LIMIT 1")
_ONE = text(f"{_COLUMNS} WHERE r.id = :id")


async def list_proposals(connection: AsyncConnection) -> list[Resolution]:
    """What waits for a second person, oldest first."""
    return [_resolution(row) for row in await connection.execute(_OPEN)]


async def write_proposal(
    connection: AsyncConnection,
    runtime: Runtime,
    standing: Standing,
    statement: Statement,
    *,
    evidence: str,
    actor: str,
    second_person: bool,
) -> Resolution:
    """Writes what `actor` states about an instruction of the locked disbursement."""
    resolution_id = runtime.new_id()
    receipt, amount, paid_at = statement.paid or (None, None, None)
    await connection.execute(
        _WRITE,
        {
            "id": resolution_id,
            "partner_id": standing.partner_id,
            "disbursement_id": standing.id,
            "attempt_id": statement.instruction.id,
            "verdict": "not_paid" if receipt is None else "paid",
            "receipt": receipt,
            "amount": None if amount is None else amount.cents,
            "paid_at": paid_at,
            "evidence": evidence,
            "second_person": second_person,
            "overturns": statement.overturns,
            "actor": actor,
            "now": runtime.clock.now(),
        },
    )
    return await read_resolution(connection, resolution_id)


async def write_decision(
    connection: AsyncConnection,
    runtime: Runtime,
    resolution_id: UUID,
    state: str,
    actor: str,
    note: str | None,
    effect: str | None = None,
) -> None:
    """Ends a proposal as applied (with its `effect`), rejected or overtaken (with a note)."""
    await connection.execute(
        _DECIDE,
        {"id": resolution_id, "state": state, "actor": actor, "now": runtime.clock.now(), "note": note, "effect": effect},
    )


async def open_proposal(connection: AsyncConnection, standing: Standing) -> Resolution:
    """The proposal about the disbursement that waits for a second person. Raises NotFound."""
    row = (await connection.execute(_OPEN_OF, {"id": standing.id})).one_or_none()
    if row is None:
        raise NotFound(f"{standing.loan}: nothing waits for a second person; `vault disbursements resolve` states what was seen")
    return _resolution(row)


async def read_resolution(connection: AsyncConnection, resolution_id: UUID) -> Resolution:
    """One that exists."""
    return _resolution((await connection.execute(_ONE, {"id": resolution_id})).one())


def _resolution(row: Row[Any]) -> Resolution:
    return Resolution(
        id=row.id,
        partner=row.partner,
        loan_account_no=row.loan_account_no,
        disbursement_id=row.disbursement_id,
        attempt_id=row.attempt_id,
        number=row.number,
        verdict=row.verdict,
        receipt=row.receipt,
        amount=Money(row.instructed_cents if row.amount_cents is None else row.amount_cents),
        paid_at=row.paid_at,
        evidence=row.evidence,
        second_person=row.second_person,
        overturns=row.overturns,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        state=row.state,
        effect=row.effect,
    )
