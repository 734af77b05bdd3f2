"""Booking paid payouts: state, the rail's line, the ledger, the charges, and the intended posting to Mifos X. Set-wise."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.disbursements.amount_difference import difference_case
from vault_core.disbursements.awaiting import NOT_TAKEN, UNRESOLVED
from vault_core.disbursements.charging import ToCapture, capture_charges
from vault_core.disbursements.intended_posting import intend_postings
from vault_core.disbursements.payment import Payment
from vault_core.disbursements.states import State, require_move
from vault_core.errors import Conflict
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.partners.partner import Partner, load_partners
from vault_core.runtime import Runtime

_ATTEMPTS = text(
    """
    UPDATE disbursement_attempts SET state = 'paid', result_at = :now, result_code = paid.code, result_text = paid.words,
           result_event_id = paid.event_id, receipt = paid.receipt, utility_balance_cents = paid.utility,
           receiver_name_sealed = paid.receiver, query_at = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:words AS text[]), CAST(:events AS uuid[]),
                CAST(:receipts AS text[]), CAST(:utilities AS bigint[]), CAST(:receivers AS bytea[]))
         AS paid(id, code, words, event_id, receipt, utility, receiver)
    WHERE disbursement_attempts.id = paid.id
    """
)
_DISBURSEMENTS = text(
    """
    UPDATE disbursements SET state = paid.state, held_for = NULL, reason = paid.reason, receipt = paid.receipt, paid_at = paid.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:receipts AS text[]),
                CAST(:ats AS timestamptz[])) AS paid(id, state, reason, receipt, at)
    WHERE disbursements.id = paid.id
    """
)
_RAIL = text(
    """
    INSERT INTO rail_lines (rail, short_code, receipt, partner_id, amount_cents, happened_at, evidence_event_id)
    SELECT 'mpesa_b2c', line.* FROM unnest(CAST(:short_codes AS text[]), CAST(:receipts AS text[]), CAST(:partners AS uuid[]),
           CAST(:amounts AS bigint[]), CAST(:ats AS timestamptz[]), CAST(:events AS uuid[])) AS line
    ON CONFLICT (short_code, receipt) DO NOTHING RETURNING receipt
    """
)


async def book_payments(connection: AsyncConnection, runtime: Runtime, payments: Sequence[Payment]) -> None:
    """Books each as paid, once. What differs from its instruction is booked as it happened and goes to a person, unposted.

    Raises Conflict for a receipt that already stands for another payment: nothing of the batch is booked then.
    """
    if not payments:
        return
    partners = await load_partners(connection, list({payment.attempt.partner_id for payment in payments}))
    await _write_states(connection, runtime, payments)
    await _write_rail_lines(connection, payments, partners)
    await post(connection, runtime, [_money_moved(payment) for payment in payments])
    await capture_charges(
        connection, runtime, [ToCapture(payment.attempt, payment.paid.receipt, payment.paid_at) for payment in payments]
    )
    await intend_postings(connection, runtime, [payment for payment in payments if not payment.differs])
    await open_cases(
        connection, runtime.clock, runtime.new_id, [_differs_case(payment) for payment in payments if payment.differs]
    )


async def _write_states(connection: AsyncConnection, runtime: Runtime, payments: Sequence[Payment]) -> None:
    await connection.execute(
        _ATTEMPTS,
        {
            "now": runtime.clock.now(),
            "ids": [payment.attempt.id for payment in payments],
            "codes": [payment.paid.code for payment in payments],
            "words": [payment.paid.text[:500] for payment in payments],
            "events": [payment.event_id for payment in payments],
            "receipts": [payment.paid.receipt for payment in payments],
            "utilities": [None if (balance := payment.paid.utility_balance) is None else balance.cents for payment in payments],
            "receivers": [_receiver(runtime, payment) for payment in payments],
        },
    )
    states = [_next_state(payment) for payment in payments]
    await connection.execute(
        _DISBURSEMENTS,
        {
            "ids": [payment.attempt.disbursement_id for payment in payments],
            "states": states,
            "reasons": [_reason(payment) for payment in payments],
            "receipts": [payment.paid.receipt for payment in payments],
            "ats": [payment.paid_at for payment in payments],
        },
    )
    for payment, state in zip(payments, states, strict=True):
        if payment.attempt.disbursement_state is State.NEEDS_REVIEW:
            await _close_cases(connection, runtime, payment)
        payment.attempt.disbursement_state = State(state)


async def _close_cases(connection: AsyncConnection, runtime: Runtime, payment: Payment) -> None:
    resolution = f"paid: M-Pesa receipt {payment.paid.receipt} (evidence {payment.event_id})"
    for kind in (UNRESOLVED, NOT_TAKEN):
        await close_case(connection, runtime.clock, kind=kind, subject=payment.attempt.case_subject, resolution=resolution)


def _next_state(payment: Payment) -> State:
    state = State.NEEDS_REVIEW if payment.differs else State.PAID
    require_move(payment.attempt.disbursement_state, state, payment.attempt.loan)
    return state


def _reason(payment: Payment) -> str | None:
    if not payment.differs:
        return None
    return (
        f"M-Pesa paid {payment.paid.amount} instead of {payment.attempt.amount}, receipt {payment.paid.receipt}: have the "
        f"difference made good over the short code, then `resolve --paid {payment.paid.receipt} --amount "
        f"{payment.attempt.amount.as_decimal()}`"
    )


def _receiver(runtime: Runtime, payment: Payment) -> bytes | None:
    name = payment.paid.receiver_name
    if not name:
        return None
    return runtime.sealer.seal(name, bound_to=f"disbursement_attempts:{payment.attempt.id}:receiver_name_sealed")


async def _write_rail_lines(connection: AsyncConnection, payments: Sequence[Payment], partners: Mapping[UUID, Partner]) -> None:
    written = await connection.execute(
        _RAIL,
        {
            "short_codes": [partners[payment.attempt.partner_id].b2c_short_code for payment in payments],
            "receipts": [payment.paid.receipt for payment in payments],
            "partners": [payment.attempt.partner_id for payment in payments],
            "amounts": [payment.paid.amount.cents for payment in payments],
            "ats": [payment.paid_at for payment in payments],
            "events": [payment.event_id for payment in payments],
        },
    )
    missing = {payment.paid.receipt for payment in payments} - {row.receipt for row in written}
    if missing or len({payment.paid.receipt for payment in payments}) < len(payments):
        raise Conflict(f"M-Pesa receipt {', '.join(sorted(missing)) or 'of this batch'} already stands for another payment")


def _money_moved(payment: Payment) -> Posting:
    partner_id, cents = payment.attempt.partner_id, payment.paid.amount.cents
    return Posting(
        partner_id=partner_id,
        kind="disbursement_paid",
        key=f"b2c:{payment.paid.receipt}:{payment.attempt.disbursement_id}{payment.attempt.again}",
        reference=payment.paid.receipt,
        effective_at=payment.paid_at,
        legs=(
            Leg(AccountRef(partner_id, "disbursed_unposted"), cents),
            Leg(AccountRef(partner_id, "b2c_float"), -cents),
        ),
        description=payment.attempt.loan,
    )


def _differs_case(payment: Payment) -> NewCase:
    attempt = payment.attempt
    kind, subject = difference_case(attempt)
    return NewCase(
        kind=kind,
        subject=subject,
        partner_id=attempt.partner_id,
        amount=payment.paid.amount,
        evidence={
            **attempt.facts(),
            "paid": str(payment.paid.amount),
            "receipt": payment.paid.receipt,
            "event_id": str(payment.event_id),
        },
    )
