"""Disbursals that we paid and posted and that somebody undid in Mifos X: a person is told of each undoing once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.mifos import ApprovedLoan
from vault_core.runtime import Runtime

UNDONE = "disbursal_undone"

# The mark of a loan stands with its first part. It outlives the case: a loan that stays undone is no news.
_TELL = text(
    """
    UPDATE disbursements SET undo_told_at = :now
    WHERE partner_id = :partner_id AND loan_id = ANY(:loan_ids) AND tranche = 1 AND undo_told_at IS NULL RETURNING loan_id
    """
)
_STANDS = text(
    """
    UPDATE disbursements SET undo_told_at = NULL
    WHERE partner_id = :partner_id AND loan_id = ANY(:loan_ids) AND undo_told_at < :read_at
    """
)
_NOT_APPROVED = text(
    """
    UPDATE disbursements SET undo_told_at = NULL
    WHERE partner_id = :partner_id AND undo_told_at < :read_at AND NOT of_tranches AND loan_id <> ALL(:approved)
    """
)


async def tell_undone(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, loans: Sequence[ApprovedLoan]) -> None:
    """Opens a case for each loan whose undoing nobody was told of. What a person closed stays closed until it stands again."""
    told = {"partner_id": partner_id, "loan_ids": [loan.id for loan in loans], "now": runtime.clock.now()}
    new = {row.loan_id for row in await connection.execute(_TELL, told)} if loans else set()
    cases = [_case(partner_id, loan) for loan in loans if loan.id in new]
    await open_cases(connection, runtime.clock, runtime.new_id, cases)


async def note_standing(connection: AsyncConnection, partner_id: UUID, loan_ids: Sequence[int], read_at: datetime) -> None:
    """Notes that the disbursals of these loans stood when they were read (from `read_at` on): another undoing is news."""
    if loan_ids:
        await connection.execute(_STANDS, {"partner_id": partner_id, "loan_ids": list(loan_ids), "read_at": read_at})


async def note_not_approved(connection: AsyncConnection, partner_id: UUID, approved: Sequence[int], read_at: datetime) -> None:
    """As `note_standing`, of all loans without tranches that are not among the `approved` of the partner."""
    seen = {"partner_id": partner_id, "approved": approved, "read_at": read_at}
    await connection.execute(_NOT_APPROVED, seen)


def _case(partner_id: UUID, loan: ApprovedLoan) -> NewCase:
    return NewCase(
        kind=UNDONE,
        subject=f"loan {loan.account_no} of {partner_id}",
        partner_id=partner_id,
        amount=loan.net_disbursal,
        evidence={
            "loan_id": loan.id,
            "what": f"paid and posted by us; Mifos X has it in status {loan.status_id} now: a disbursal was undone there",
            "do": "have the first payout returned before a second one, or post the disbursal again by hand if it stands",
        },
    )
