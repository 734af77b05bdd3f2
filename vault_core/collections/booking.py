"""Booking money that came in: once a receipt, whichever feed says it and however often (DESIGN.md section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.collections.charging import ToCharge, price_collections, write_collection_charges
from vault_core.collections.matching import normalise_reference
from vault_core.errors import InvalidInput
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.outbox.calls import MIFOS_TOPIC, NewCall, write_calls
from vault_core.phones import normalise_phone
from vault_core.runtime import Runtime

COLLECTION_CALL = "collection.post"


@dataclass(frozen=True, slots=True)
class IncomingPayment:
    """One payment as a feed tells it. (short code, receipt) is its identity across all feeds."""

    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    source: str  # 'c2b', 'stk', 'pull', 'statement'
    event_id: UUID  # the delivery that says so
    org_balance: Money | None  # the short code's balance after it, as M-Pesa says
    bill_reference: str = field(repr=False)
    payer_phone: str | None = field(repr=False)  # as it came: masked, hashed or plain
    payer_name: str | None = field(repr=False)


class Booking(StrEnum):
    """What booking a payment did."""

    BOOKED = "booked"
    DUPLICATE = "duplicate"
    CONFLICT = "same receipt with another amount: case opened, nothing booked"


_INSERT = text(
    """
    INSERT INTO collections (id, partner_id, short_code, receipt, amount_cents, happened_at, bill_reference_sealed,
                             bill_reference_hash, payer_phone_sealed, payer_phone_hash, payer_name_sealed, source, event_id,
                             org_balance_cents, state, booked_at)
    SELECT new.*, 'matching', :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:short_codes AS text[]), CAST(:receipts AS text[]),
                CAST(:amounts AS bigint[]), CAST(:moments AS timestamptz[]), CAST(:references_sealed AS bytea[]),
                CAST(:reference_hashes AS bytea[]), CAST(:phones_sealed AS bytea[]), CAST(:phone_hashes AS bytea[]),
                CAST(:names_sealed AS bytea[]), CAST(:sources AS text[]), CAST(:event_ids AS uuid[]),
                CAST(:org_balances AS bigint[])) AS new
    ON CONFLICT (short_code, receipt) DO NOTHING
    RETURNING id
    """
)
_EXISTING = text(
    """
    SELECT short_code, receipt, amount_cents FROM collections
    WHERE (short_code, receipt) IN (SELECT * FROM unnest(CAST(:short_codes AS text[]), CAST(:receipts AS text[])))
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
    and post it.
    A repeat does nothing; a repeat with another amount opens a case 'receipt_conflict' and books nothing.
    """
    # One order for all transactions: two batches that share receipts then wait for each other instead of deadlocking.
    order = sorted(range(len(payments)), key=lambda index: (payments[index].short_code, payments[index].receipt))
    ids = {index: runtime.new_id() for index in order}
    inserted = await connection.execute(
        _INSERT, {**_columns(runtime, [(ids[index], payments[index]) for index in order]), "now": runtime.clock.now()}
    )
    new_ids = {row.id for row in inserted}
    new = [(ids[index], payments[index]) for index in order if ids[index] in new_ids]
    await _follow_up(connection, runtime, new)
    repeats = [index for index in order if ids[index] not in new_ids]
    bookings = dict.fromkeys(order, Booking.BOOKED) | await _judge_repeats(connection, runtime, payments, repeats)
    return [bookings[index] for index in range(len(payments))]


def reference_binding(collection_id: UUID) -> str:
    """What the sealed bill reference of a collection is bound to."""
    return f"collections:{collection_id}:bill_reference"


def _columns(runtime: Runtime, rows: Sequence[tuple[UUID, IncomingPayment]]) -> dict[str, Any]:
    sealer = runtime.sealer

    def sealed(row_id: UUID, value: str | None, column: str) -> bytes | None:
        return None if value is None else sealer.seal(value, bound_to=f"collections:{row_id}:{column}")

    return {
        "ids": [row_id for row_id, _ in rows],
        "partner_ids": [payment.partner_id for _, payment in rows],
        "short_codes": [payment.short_code for _, payment in rows],
        "receipts": [payment.receipt for _, payment in rows],
        "amounts": [payment.amount.cents for _, payment in rows],
        "moments": [payment.happened_at for _, payment in rows],
        "references_sealed": [sealer.seal(one.bill_reference, bound_to=reference_binding(row_id)) for row_id, one in rows],
        "reference_hashes": [_reference_hash(runtime, payment) for _, payment in rows],
        "phones_sealed": [sealed(row_id, payment.payer_phone, "payer_phone") for row_id, payment in rows],
        "phone_hashes": [_phone_hash(runtime, payment.payer_phone) for _, payment in rows],
        "names_sealed": [sealed(row_id, payment.payer_name, "payer_name") for row_id, payment in rows],
        "sources": [payment.source for _, payment in rows],
        "event_ids": [payment.event_id for _, payment in rows],
        "org_balances": [None if one.org_balance is None else one.org_balance.cents for _, one in rows],
    }


def _reference_hash(runtime: Runtime, payment: IncomingPayment) -> bytes:
    return runtime.sealer.lookup_hash(normalise_reference(payment.bill_reference), purpose="bill reference")


def _phone_hash(runtime: Runtime, phone: str | None) -> bytes | None:
    """Only a phone that came in clear can be looked up; masked and hashed ones cannot."""
    try:
        return runtime.sealer.lookup_hash(normalise_phone(phone or ""), purpose="phone")
    except InvalidInput:
        return None


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
                ordering_key=f"{payment.partner_id}:{_reference_hash(runtime, payment).hex()}",
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


async def _judge_repeats(
    connection: AsyncConnection, runtime: Runtime, payments: Sequence[IncomingPayment], repeats: Sequence[int]
) -> dict[int, Booking]:
    if not repeats:
        return {}
    keys = sorted({(payments[index].short_code, payments[index].receipt) for index in repeats})
    rows = await connection.execute(_EXISTING, {"short_codes": [key[0] for key in keys], "receipts": [key[1] for key in keys]})
    booked = {(row.short_code, row.receipt): Money(row.amount_cents) for row in rows}
    verdicts: dict[int, Booking] = {}
    cases: list[NewCase] = []
    for index in repeats:
        payment = payments[index]
        first = booked[payment.short_code, payment.receipt]
        verdicts[index] = Booking.DUPLICATE if first == payment.amount else Booking.CONFLICT
        if first != payment.amount:
            cases.append(
                NewCase(
                    kind="receipt_conflict",
                    subject=f"{payment.short_code} {payment.receipt}",
                    partner_id=payment.partner_id,
                    amount=payment.amount,
                    evidence={
                        "booked": str(first),
                        "now_told": str(payment.amount),
                        "source": payment.source,
                        "delivery": str(payment.event_id),
                    },
                )
            )
    await open_cases(connection, runtime.clock, runtime.new_id, cases)
    return verdicts
