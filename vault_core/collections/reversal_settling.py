"""What follows from a verdict on a reversal: the payment is given back, or it is in suspense again. The first verdict wins."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.collections.decision_rows import end_decisions, open_decision
from vault_core.collections.reversal_rows import ReversalRequest, lock_requests
from vault_core.collections.suspense import UNMATCHED_CASE
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.runtime import Runtime

UNKNOWN_CASE = "reversal_unknown"
CONTRADICTING_CASE = "contradicting_reversal"


@dataclass(frozen=True, slots=True)
class GivenBack:
    """M-Pesa gave the payment back under a receipt of its own, at that time."""

    receipt: str
    at: datetime


_DONE = text(
    """
    UPDATE reversal_requests SET state = 'done', next_at = NULL, result_at = :now, result_code = :code, result_text = :words,
           result_event_id = :event_id, reversal_receipt = :receipt WHERE id = :id
    """
)
_FAILED = text(
    """
    UPDATE reversal_requests SET state = 'failed', next_at = NULL, result_at = :now, result_code = :code, result_text = :words,
           result_event_id = :event_id WHERE id = :id AND state NOT IN ('done', 'failed') RETURNING collection_id
    """
)
_REVERSED = text(
    """
    UPDATE collections SET state = 'reversed', in_suspense = false, reason = :reason
    WHERE id = :id AND state IN ('reversing', 'suspense')
    """
)
_BACK = text("UPDATE collections SET state = 'suspense', reason = :reason WHERE id = :id AND state = 'reversing'")
_STATE = text("SELECT state FROM collections WHERE id = :id FOR UPDATE")
_RAIL = text(
    """
    INSERT INTO rail_lines (rail, short_code, receipt, partner_id, amount_cents, happened_at, evidence_event_id)
    VALUES ('mpesa_reversal', :short_code, :receipt, :partner_id, :amount, :at, :event_id) ON CONFLICT DO NOTHING
    """
)


async def book_given_back(
    connection: AsyncConnection,
    runtime: Runtime,
    request_id: UUID,
    given_back: GivenBack,
    *,
    code: str,
    words: str,
    event_id: UUID,
) -> str:
    """Books that M-Pesa gave the payment back, in the caller's transaction, and returns a few words on what that did.

    The money goes from suspense to the pay bill's account, by the reversal's own receipt; case and decision end. A repeat does
    nothing. After a verdict that it failed, it is booked only while the money is still in suspense and nothing else is decided;
    otherwise, and for another receipt than the first, a case opens.
    """
    request = (await lock_requests(connection, [request_id]))[request_id]
    if request.state == "done":
        if request.reversal_receipt == given_back.receipt:
            return "the reversal is booked already"
        return await contradict(connection, runtime, request, f"a second receipt {given_back.receipt} for the same reversal")
    state = (await connection.execute(_STATE, {"id": request.collection_id})).scalar_one()
    still = state == "suspense" and await open_decision(connection, request.collection_id) is None
    if request.state == "failed" and not still:
        return await contradict(connection, runtime, request, f"given back as {given_back.receipt}, after it had failed")
    now = runtime.clock.now()
    told = {"id": request.id, "now": now, "code": code, "words": words[:500], "event_id": event_id}
    await connection.execute(_DONE, {**told, "receipt": given_back.receipt})
    effect = f"given back by M-Pesa, receipt {given_back.receipt}"
    await connection.execute(_REVERSED, {"id": request.collection_id, "reason": effect})
    await connection.execute(
        _RAIL,
        {
            "short_code": request.short_code,
            "receipt": given_back.receipt,
            "partner_id": request.partner_id,
            "amount": request.amount.cents,
            "at": given_back.at,
            "event_id": event_id,
        },
    )
    await post(connection, runtime, [_posting(request, given_back)])
    cases = [(UNMATCHED_CASE, request.subject), (UNKNOWN_CASE, request.subject)]
    await close_cases(connection, runtime.clock, cases, resolution=effect)
    await end_decisions(connection, runtime, {request.collection_id: effect}, "done")
    return effect


async def put_back(
    connection: AsyncConnection, runtime: Runtime, request_id: UUID, code: str, words: str, event_id: UUID | None
) -> str:
    """Ends the request as failed, in the caller's transaction: the payment is in suspense as before, with its case.

    A repeat does nothing; after it was given back a case opens instead. Returns a few words on what that did.
    """
    values = {"id": request_id, "now": runtime.clock.now(), "code": code, "words": words[:500], "event_id": event_id}
    row = (await connection.execute(_FAILED, values)).one_or_none()
    request = (await lock_requests(connection, [request_id]))[request_id]
    if row is None:
        if request.state == "failed":
            return "the reversal has failed already"
        return await contradict(connection, runtime, request, f"failed ({code}), after it was given back: {words}")
    effect = f"not given back: {words}"
    await connection.execute(_BACK, {"id": request.collection_id, "reason": effect[:500]})
    await close_cases(connection, runtime.clock, [(UNKNOWN_CASE, request.subject)], resolution=effect)
    await end_decisions(connection, runtime, {request.collection_id: effect}, "failed")
    return effect


async def contradict(connection: AsyncConnection, runtime: Runtime, request: ReversalRequest, what: str) -> str:
    """Opens a case about two words of M-Pesa against each other; nothing is booked."""
    case = NewCase(
        kind=CONTRADICTING_CASE,
        subject=request.subject,
        partner_id=request.partner_id,
        amount=request.amount,
        evidence={"first": f"{request.state} {request.reversal_receipt or ''}".strip(), "then": what, "request": str(request.id)},
    )
    await open_cases(connection, runtime.clock, runtime.new_id, [case])
    return f"contradicts what was booked, case opened: {what}"


def _posting(request: ReversalRequest, given_back: GivenBack) -> Posting:
    return Posting(
        partner_id=request.partner_id,
        kind="collection_reversed",
        key=f"reversed:{request.id}",
        reference=given_back.receipt,
        effective_at=given_back.at,
        legs=(
            Leg(AccountRef(request.partner_id, "suspense"), request.amount.cents),
            Leg(AccountRef(request.partner_id, "c2b_float"), -request.amount.cents),
        ),
        description=f"payment {request.receipt} given back",
    )
