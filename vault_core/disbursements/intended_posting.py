"""The posting of a paid disbursement to Mifos X, written with the payment that decided it, and the call that makes it."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import business_day
from vault_core.disbursements.payment import Payment
from vault_core.outbox.calls import MIFOS_TOPIC, NewCall, begin_anew, write_calls
from vault_core.postings.posting_rows import account_number_binding
from vault_core.runtime import Runtime

POST_CALL = "disbursement.post"

_WRITE = text(
    """
    INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, tranche, external_id, idempotency_key, receipt,
                               amount_cents, transaction_date, account_number_sealed, created_at, top_up)
    VALUES (:id, :partner_id, 'disburse', :subject_id, :account_id, :tranche, :external_id, :idempotency_key, :receipt,
            :amount_cents, :transaction_date, :account_number_sealed, :now,
            (SELECT older_loan_id IS NOT NULL FROM disbursements WHERE id = :subject_id))
    ON CONFLICT DO NOTHING
    """
)


async def intend_postings(connection: AsyncConnection, runtime: Runtime, payments: Sequence[Payment]) -> None:
    """Writes the intended posting of each paid principal, and the call that makes it. Repeats do nothing."""
    if not payments:
        return
    rows = []
    for payment in payments:
        attempt, posting_id = payment.attempt, runtime.new_id()
        phone = None
        if attempt.phone_sealed is not None:
            clear = runtime.sealer.open_text(
                attempt.phone_sealed, bound_to=f"disbursements:{attempt.disbursement_id}:phone_sealed"
            )
            phone = runtime.sealer.seal(clear, bound_to=account_number_binding(posting_id))
        rows.append(
            {
                "id": posting_id,
                "partner_id": attempt.partner_id,
                "subject_id": attempt.disbursement_id,
                "account_id": attempt.loan_id,
                "tranche": attempt.tranche,
                "external_id": f"pv-disburse-{attempt.disbursement_id.hex}{attempt.again.replace(':', '-again')}",
                "idempotency_key": runtime.new_id().hex,
                "receipt": payment.paid.receipt,
                "amount_cents": attempt.principal.cents,
                "transaction_date": business_day(payment.paid_at),
                "account_number_sealed": phone,
                "now": runtime.clock.now(),
            }
        )
    await connection.execute(_WRITE, rows)
    await write_calls(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCall(
                partner_id=payment.attempt.partner_id,
                topic=MIFOS_TOPIC,
                kind=POST_CALL,
                subject=payment.attempt.disbursement_id,
                ordering_key=f"{payment.attempt.partner_id}:{payment.attempt.loan_id}",
            )
            for payment in payments
        ],
    )
    if again := [payment.attempt.disbursement_id for payment in payments if payment.attempt.taken_back]:
        await begin_anew(connection, runtime.clock, POST_CALL, again)  # the call of the payment that was taken back is over
