"""Booking money that came in: once a receipt, whichever feed says it and however often (DESIGN.md section 5)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.charging import ToCharge, price_collections, write_collection_charges
from vault_core.collections.incoming import COLLECTION_CALL, Booking, IncomingPayment, facts_of, is_found_late
from vault_core.collections.payment_seals import reference_binding, reference_hash, sealed_facts
from vault_core.collections.repeats import lock_repeats, take_repeats
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.outbox.calls import MIFOS_TOPIC, NewCall, write_calls
from vault_core.runtime import Runtime

__all__ = ["COLLECTION_CALL", "Booking", "IncomingPayment", "book_payments", "reference_binding"]

_INSERT = text(
    """
    INSERT INTO collections (id, partner_id, short_code, receipt, amount_cents, happened_at, bill_reference_sealed,
                             bill_reference_hash, payer_phone_sealed, payer_phone_hash, payer_name_sealed, source, event_id,
                             org_balance_cents, found_late, state, booked_at)
    SELECT new.*, 'matching', :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:short_codes AS text[]), CAST(:receipts AS text[]),
                CAST(:amounts AS bigint[]), CAST(:moments AS timestamptz[]), CAST(:references_sealed AS bytea[]),
                CAST(:reference_hashes AS bytea[]), CAST(:phones_sealed AS bytea[]), CAST(:phone_hashes AS bytea[]),
                CAST(:names_sealed AS bytea[]), CAST(:sources AS text[]), CAST(:event_ids AS uuid[]),
                CAST(:org_balances AS bigint[]), CAST(:found_late AS boolean[])) AS new
    ON CONFLICT (short_code, receipt) DO NOTHING
    RETURNING id
    """
)
_RAIL = text(
    """
    INSERT INTO rail_lines (rail, short_code, receipt, partner_id, amount_cents, happened_at, evidence_event_id)
    SELECT 'mpesa_c2b', new.*
    FROM unnest(CAST(:short_codes AS text[]), CAST(:receipts AS text[]), CAST(:partner_ids AS uuid[]), CAST(:amounts AS bigint[]),
                CAST(:moments AS timestamptz[]), CAST(:event_ids AS uuid[])) AS new
    ON CONFLICT (short_code, receipt) DO NOTHING
    """
)


async def book_payments(connection: AsyncConnection, runtime: Runtime, payments: Sequence[IncomingPayment]) -> list[Booking]:
    """Books `payments` in the caller's transaction and says for each, in order, what that did.

    A new one gets its row, its rail line, its ledger entries (into collected_unposted), its charges and the call that will match
    and post it. A repeat completes what is known of it and moves no money; one that contradicts it, in the amount above all,
    opens a case 'receipt_conflict' (vault_core/collections/repeats.py).
    """
    # One order for all transactions: two batches that share receipts then wait for each other instead of deadlocking.
    order = sorted(range(len(payments)), key=lambda index: (payments[index].short_code, payments[index].receipt))
    ids = {index: runtime.new_id() for index in order}
    inserted = await connection.execute(
        _INSERT, {**_columns(runtime, [(ids[index], payments[index]) for index in order]), "now": runtime.clock.now()}
    )
    new_ids = {row.id for row in inserted}
    repeats = await lock_repeats(connection, [(index, payments[index]) for index in order if ids[index] not in new_ids])
    await _follow_up(connection, runtime, [(ids[index], payments[index]) for index in order if ids[index] in new_ids])
    bookings = dict.fromkeys(order, Booking.BOOKED) | await take_repeats(connection, runtime, repeats)
    return [bookings[index] for index in range(len(payments))]


def _columns(runtime: Runtime, rows: Sequence[tuple[UUID, IncomingPayment]]) -> dict[str, Any]:
    now, late_after = runtime.clock.now(), timedelta(seconds=runtime.pace.confirmation_late_after)
    facts = [sealed_facts(runtime.sealer, row_id, facts_of(payment)) for row_id, payment in rows]
    return {
        "ids": [row_id for row_id, _ in rows],
        "partner_ids": [payment.partner_id for _, payment in rows],
        "short_codes": [payment.short_code for _, payment in rows],
        "receipts": [payment.receipt for _, payment in rows],
        "amounts": [payment.amount.cents for _, payment in rows],
        "moments": [payment.happened_at for _, payment in rows],
        "references_sealed": [one["bill_reference_sealed"] for one in facts],
        "reference_hashes": [one["bill_reference_hash"] for one in facts],
        "phones_sealed": [one["payer_phone_sealed"] for one in facts],
        "phone_hashes": [one["payer_phone_hash"] for one in facts],
        "names_sealed": [one["payer_name_sealed"] for one in facts],
        "sources": [payment.source for _, payment in rows],
        "event_ids": [payment.event_id for _, payment in rows],
        "org_balances": [one["org_balance_cents"] for one in facts],
        "found_late": [is_found_late(payment, now, late_after) for _, payment in rows],
    }


async def _follow_up(connection: AsyncConnection, runtime: Runtime, new: Sequence[tuple[UUID, IncomingPayment]]) -> None:
    if not new:
        return
    await connection.execute(
        _RAIL,
        {
            "short_codes": [payment.short_code for _, payment in new],
            "receipts": [payment.receipt for _, payment in new],
            "partner_ids": [payment.partner_id for _, payment in new],
            "amounts": [payment.amount.cents for _, payment in new],
            "moments": [payment.happened_at for _, payment in new],
            "event_ids": [payment.event_id for _, payment in new],
        },
    )
    await _post(connection, runtime, new)
    await write_calls(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCall(
                partner_id=payment.partner_id,
                topic=MIFOS_TOPIC,
                kind=COLLECTION_CALL,
                subject=row_id,
                # Payments under one reference are posted one after the other. Hashed: it may be a phone, and keys are in clear.
                ordering_key=f"{payment.partner_id}:{reference_hash(runtime.sealer, payment.bill_reference).hex()}",
            )
            for row_id, payment in new
        ],
    )


async def _post(connection: AsyncConnection, runtime: Runtime, new: Sequence[tuple[UUID, IncomingPayment]]) -> None:
    """The money and what it costs, in one batch: the ledger locks all accounts in one order."""
    charges = await price_collections(connection, runtime, [_to_charge(row_id, payment) for row_id, payment in new])
    due = [(charge, posting) for charge in charges if (posting := charge.posting) is not None]
    transactions = await post(
        connection, runtime, [*(_collected(payment) for _, payment in new), *(posting for _, posting in due)]
    )
    taken = {charge.of.collection_id: taken for (charge, _), taken in zip(due, transactions[len(new) :], strict=True)}
    await write_collection_charges(connection, runtime, [(charge, taken.get(charge.of.collection_id)) for charge in charges])


def _to_charge(row_id: UUID, payment: IncomingPayment) -> ToCharge:
    return ToCharge(row_id, payment.partner_id, payment.short_code, payment.receipt, payment.amount, payment.happened_at)


def _collected(payment: IncomingPayment) -> Posting:
    return Posting(
        partner_id=payment.partner_id,
        kind="collection",
        key=f"c2b:{payment.short_code}:{payment.receipt}",
        reference=payment.receipt,
        effective_at=payment.happened_at,
        legs=(
            Leg(AccountRef(payment.partner_id, "c2b_float"), payment.amount.cents),
            Leg(AccountRef(payment.partner_id, "collected_unposted"), -payment.amount.cents),
        ),
    )
