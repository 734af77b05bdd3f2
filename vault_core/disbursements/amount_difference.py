"""Payouts of another amount than was instructed, once people saw the difference made good: the books follow, and the posting."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.attempts import Attempt
from vault_core.disbursements.evidence import SaysPaid
from vault_core.disbursements.intended_posting import intend_postings
from vault_core.disbursements.payment import Payment
from vault_core.disbursements.states import State, require_move
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.runtime import Runtime

DIFFERS = "paid_amount_differs"
MADE_GOOD = "disbursement_difference"

_PAID = text("UPDATE disbursements SET state = 'paid', reason = NULL WHERE id = :id RETURNING paid_at")


def difference_case(attempt: Attempt) -> tuple[str, str]:
    """Kind and subject of the case about it."""
    return DIFFERS, attempt.case_subject


async def make_good(
    connection: AsyncConnection, runtime: Runtime, attempt: Attempt, booked: Money, *, resolution: UUID, words: str
) -> str:
    """Books that the client has what was instructed after all, where `booked` was paid; then it is posted like any payment.

    The difference came back to the short code, or went out of it, now: the payment itself stays booked as M-Pesa told it.
    Returns a few words on what was done.
    """
    require_move(attempt.disbursement_state, State.PAID, attempt.loan)
    assert attempt.receipt is not None  # noqa: S101 - it is paid
    missing, partner_id = attempt.amount - booked, attempt.partner_id
    correction = Posting(
        partner_id=partner_id,
        kind=MADE_GOOD,
        key=f"made_good:{resolution}",
        reference=attempt.receipt,
        effective_at=runtime.clock.now(),
        legs=(
            Leg(AccountRef(partner_id, "disbursed_unposted"), missing.cents),
            Leg(AccountRef(partner_id, "b2c_float"), -missing.cents),
        ),
        description=words[:500],
    )
    await post(connection, runtime, [correction])
    paid_at = (await connection.execute(_PAID, {"id": attempt.disbursement_id})).scalar_one()
    said = SaysPaid("BY_PERSON", words, attempt.receipt, attempt.amount, paid_at)
    await intend_postings(connection, runtime, [Payment(attempt, said, False, resolution, paid_at)])
    return f"the difference of {missing if missing > Money(0) else -missing} is made good; it is posted to Mifos X"
