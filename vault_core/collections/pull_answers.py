"""What M-Pesa answered to pulls, kept as it came before anything is made of it, and booked from there."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_unheard_cases
from vault_core.clients.daraja_pull import PullAnswer, PulledPayment, PullPage, PullQuestion, in_words
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.collections.pull_rules import Window, moments_of
from vault_core.database import in_transaction
from vault_core.outcome import Accepted
from vault_core.runtime import Runtime

UNREADABLE_CASE = "pull_row_unreadable"

_KEEP = text(
    """
    INSERT INTO pull_answers (id, partner_id, short_code, from_at, to_at, row_offset, answered_at, outcome, http_status,
                              body_sealed, row_count, unreadable)
    VALUES (:id, :partner_id, :short_code, :from_at, :to_at, :row_offset, :now, :outcome, :status, :body, :row_count, :unreadable)
    """
)
_KNOWN = text(
    """
    SELECT receipt, happened_at FROM collections
    WHERE short_code = :short_code AND receipt = ANY(:receipts) AND source NOT IN ('pull', 'statement')
    """
)


def answer_binding(answer_id: UUID) -> str:
    """What the sealed body of a pull answer is bound to."""
    return f"pull_answers:{answer_id}:body"


async def keep_answer(runtime: Runtime, partner_id: UUID, question: PullQuestion, answer: PullAnswer) -> UUID:
    """Commits the answer, sealed, and returns its id. A row in it that cannot be read opens a case: it may be money."""
    answer_id = runtime.new_id()
    page = answer.outcome.value if isinstance(answer.outcome, Accepted) else PullPage((), ())
    body = None if answer.body is None else runtime.sealer.seal(answer.body, bound_to=answer_binding(answer_id))

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            _KEEP,
            {
                "id": answer_id,
                "partner_id": partner_id,
                "short_code": question.short_code,
                "from_at": question.start,
                "to_at": question.end,
                "row_offset": question.offset,
                "now": runtime.clock.now(),
                "outcome": in_words(answer.outcome),
                "status": answer.status,
                "body": body,
                "row_count": page.row_count,
                "unreadable": len(page.unreadable),
            },
        )
        if page.unreadable:
            case = _unreadable(partner_id, question, answer_id, page.unreadable)
            # The next sweeps read the same hour again.
            told_by = ("answer", "from", "to")
            await open_unheard_cases(connection, runtime.clock, runtime.new_id, [case], told_by=told_by)

    await in_transaction(runtime.engine, work)
    return answer_id


async def book_page(runtime: Runtime, partner_id: UUID, short_code: str, window: Window, page: PullPage, answer_id: UUID) -> None:
    """Books what the rows of a kept answer tell, each receipt once whoever told of it before, in one transaction."""
    if not page.payments:
        return

    async def work(connection: AsyncConnection) -> None:
        receipts = [payment.receipt for payment in page.payments]
        rows = await connection.execute(_KNOWN, {"short_code": short_code, "receipts": receipts})
        known: dict[str, datetime] = {row.receipt: row.happened_at for row in rows}
        moments = moments_of(page.payments, known, window)
        payments = [
            _incoming(payment, at, partner_id, short_code, answer_id) for payment, at in zip(page.payments, moments, strict=True)
        ]
        await book_payments(connection, runtime, payments)

    await in_transaction(runtime.engine, work)


def _incoming(payment: PulledPayment, at: datetime, partner_id: UUID, short_code: str, answer_id: UUID) -> IncomingPayment:
    return IncomingPayment(
        partner_id=partner_id,
        short_code=short_code,
        receipt=payment.receipt,
        amount=payment.amount,
        happened_at=at,
        source="pull",
        event_id=answer_id,
        org_balance=None,
        bill_reference=payment.bill_reference,
        payer_phone=payment.phone,
        payer_name=payment.payer_name,
    )


def _unreadable(partner_id: UUID, question: PullQuestion, answer_id: UUID, rows: tuple[str, ...]) -> NewCase:
    return NewCase(
        kind=UNREADABLE_CASE,
        subject=f"pulled rows of pay bill {question.short_code}",
        partner_id=partner_id,
        evidence={
            "answer": str(answer_id),
            "from": question.start.isoformat(),
            "to": question.end.isoformat(),
            "rows": sorted({row.partition(": ")[2] for row in rows})[:20],  # their numbers change with what is asked for
            "do": "look these up in the M-Pesa portal; what is missing here comes in by `vault collections import-statement`",
        },
    )
