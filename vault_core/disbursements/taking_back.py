"""Taking back a payment that is booked and was not made: because two people found that out (resolving.py).

Nothing is erased. Each ledger transaction of the payment gets its reversal, which points at it; the posting to Mifos X counts no
more, and where it may stand there a case asks for it to be undone, which closes itself when the loan is read without it
(undo_watch.py). The instruction is open again and at once judged by the evidence that it was not paid, the way of any failure.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.disbursements.amount_difference import difference_case
from vault_core.disbursements.attempts import Attempt, lock_attempts
from vault_core.disbursements.intended_posting import POST_CALL
from vault_core.disbursements.states import State, require_move
from vault_core.disbursements.unbooked_payment import forget_unbooked
from vault_core.errors import Conflict
from vault_core.ledger.posting import post, reversal_of
from vault_core.runtime import Runtime

TO_BE_UNDONE = "posting_to_be_undone"

# In the order in which they are taken back: the last first.
_BOOKED = text(
    """
    SELECT t.id, t.kind FROM ledger_transactions t
    WHERE t.partner_id = :partner_id AND t.reference = :receipt AND t.reverses IS NULL
          AND t.kind IN ('disbursement_posted', 'charges', 'disbursement_paid', 'disbursement_difference')
          AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = t.id)
    ORDER BY t.booked_at DESC, t.id DESC
    """
)
_POSTING = text(
    """
    SELECT id, state, tries, external_id, mifos_transaction_id, lease_until > :now AS leased FROM core_postings
    WHERE kind = 'disburse' AND subject_id = :id AND state <> 'undone' ORDER BY created_at DESC LIMIT 1 FOR UPDATE
    """
)
_POSTING_COUNTS_NO_MORE = text(
    """
    UPDATE core_postings SET state = 'undone', lease_until = NULL, undo_look_at = :look_at WHERE id = :id
    """
)
_NO_CALL = text("UPDATE outbox SET state = 'done', done_at = :now, lease_until = NULL WHERE kind = :kind AND subject = :subject")
_ATTEMPT = text("UPDATE disbursement_attempts SET state = 'unknown', receipt = NULL WHERE id = :id")
_DISBURSEMENT = text(
    """
    UPDATE disbursements SET state = 'needs_review', held_for = NULL, reason = NULL, batch_id = NULL, hold_id = NULL,
           receipt = NULL, paid_at = NULL, posted_at = NULL, next_tranche_at = NULL, taken_back = taken_back + 1
    WHERE id = :id
    """
)


async def take_back(connection: AsyncConnection, runtime: Runtime, attempt: Attempt, *, resolution: UUID, words: str) -> Attempt:
    """Undoes all that the locked paid `attempt` brought about, and returns it as it stands then: open, its loan with a person.

    Raises Conflict while a worker posts it to Mifos X: that is over within a minute.
    """
    receipt = attempt.receipt
    assert receipt is not None  # noqa: S101 - it is paid
    require_move(attempt.disbursement_state, State.NEEDS_REVIEW, attempt.loan)
    await _give_up_posting(connection, runtime, attempt, receipt)
    booked = (await connection.execute(_BOOKED, {"partner_id": attempt.partner_id, "receipt": receipt})).all()
    now = runtime.clock.now()
    reversals = [
        await reversal_of(connection, row.id, key=f"not_paid:{resolution}:{row.kind}", effective_at=now, why=words[:500])
        for row in booked
    ]
    await post(connection, runtime, reversals)
    await forget_unbooked(connection, attempt.partner_id, receipt)
    await connection.execute(_ATTEMPT, {"id": attempt.id})
    await connection.execute(_DISBURSEMENT, {"id": attempt.disbursement_id})
    (reopened,) = await lock_attempts(connection, ids=[attempt.id])
    return reopened


async def _give_up_posting(connection: AsyncConnection, runtime: Runtime, attempt: Attempt, receipt: str) -> None:
    now, subject = runtime.clock.now(), str(attempt.disbursement_id)
    posting = (await connection.execute(_POSTING, {"id": attempt.disbursement_id, "now": now})).one_or_none()
    if posting is not None:
        if posting.leased and posting.state in {"intended", "unknown"}:
            raise Conflict(f"{attempt.loan} is being posted to Mifos X this moment: try again in a minute")
        called = posting.state == "unknown" and posting.tries > 0
        # What was handed to people may have been posted by hand since, whatever became of our own calls.
        may_stand = called or posting.state == "posted" or attempt.disbursement_state is State.NEEDS_REVIEW
        # Mifos X may still be at work on a call whose answer is missing: that it does not show it yet proves nothing.
        look_at = now + timedelta(seconds=runtime.pace.unposted_look_every if called else 0)
        counts_no_more = {"id": posting.id, "look_at": look_at if may_stand else None}
        await connection.execute(_POSTING_COUNTS_NO_MORE, counts_no_more)
        await connection.execute(_NO_CALL, {"kind": POST_CALL, "subject": subject, "now": now})
        if may_stand:
            await open_cases(connection, runtime.clock, runtime.new_id, [_to_be_undone(attempt, receipt, posting)])
    of_posting = [("disbursement_unposted", attempt.case_subject), ("call_given_up", f"{POST_CALL} {subject}")]
    of_payment = [difference_case(attempt), ("contradicting_result", f"attempt {attempt.id} failed")]
    resolution = f"receipt {receipt} was taken back: it was not paid"
    await close_cases(connection, runtime.clock, of_posting + of_payment, resolution=resolution)


def _to_be_undone(attempt: Attempt, receipt: str, posting: Row[Any]) -> NewCase:
    return NewCase(
        kind=TO_BE_UNDONE,
        subject=to_be_undone(attempt.disbursement_id, receipt),
        partner_id=attempt.partner_id,
        amount=attempt.principal,
        evidence={
            "loan_id": attempt.loan_id,
            "loan_account_no": attempt.loan_account_no,
            "what": "posted to Mifos X, or perhaps so, as disbursed; two people found out that it was not paid",
            "do": "undo the disbursal in Mifos X: nothing more is paid for the loan before it is approved there again, and this "
            "case closes by itself when the loan is read without it",
            "receipt": receipt,
            "mifos_transaction_id": posting.mifos_transaction_id,
            "external_id": posting.external_id,
        },
    )


def to_be_undone(disbursement_id: UUID, receipt: str) -> str:
    """The subject of the case about a posting that may still stand in Mifos X."""
    return f"disbursement {disbursement_id} receipt {receipt}"
