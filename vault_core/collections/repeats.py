"""Payments that are told again: what a later telling adds, and where it contradicts the first.

A pull or a statement may tell a payment without its reference, which then goes to suspense. When another feed brings the
reference its account is looked for anew, unless people have decided about it: what they said stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_unheard_cases
from vault_core.collections.incoming import COLLECTION_CALL, Booking, Facts, IncomingPayment, contradictions, facts_of, merged
from vault_core.collections.masking import mask_reference
from vault_core.collections.payment_seals import opened_facts, sealed_facts
from vault_core.money import Money
from vault_core.outbox.calls import begin_anew
from vault_core.runtime import Runtime

CONFLICT_CASE = "receipt_conflict"

# In one order, as every transaction that books takes them.
_LOCK = text(
    """
    SELECT collections.id, short_code, receipt, amount_cents, bill_reference_sealed, payer_phone_sealed, payer_name_sealed,
           org_balance_cents
    FROM collections
    WHERE (short_code, receipt) IN (SELECT * FROM unnest(CAST(:short_codes AS text[]), CAST(:receipts AS text[])))
    ORDER BY short_code, receipt FOR UPDATE
    """
)
_COMPLETE = text(
    """
    UPDATE collections SET bill_reference_sealed = known.reference, bill_reference_hash = known.reference_hash,
           payer_phone_sealed = known.phone, payer_phone_hash = known.phone_hash, payer_name_sealed = known.name,
           org_balance_cents = known.balance
    FROM unnest(CAST(:ids AS uuid[]), CAST(:bill_reference_sealed AS bytea[]), CAST(:bill_reference_hash AS bytea[]),
                CAST(:payer_phone_sealed AS bytea[]), CAST(:payer_phone_hash AS bytea[]), CAST(:payer_name_sealed AS bytea[]),
                CAST(:org_balance_cents AS bigint[]))
         AS known(id, reference, reference_hash, phone, phone_hash, name, balance)
    WHERE collections.id = known.id
    """
)
# Its money stays in suspense, with its case, until Mifos X has it.
_MATCH_ANEW = text(
    """
    UPDATE collections SET state = 'matching', reason = NULL
    WHERE id = ANY(:ids) AND state IN ('suspense', 'matching')
          AND NOT EXISTS (SELECT FROM collection_decisions d
                          WHERE d.collection_id = collections.id AND d.state NOT IN ('rejected', 'lapsed'))
    RETURNING id
    """
)
_TELL = text(
    """
    INSERT INTO collection_tellings (collection_id, source, event_id, told_at)
    SELECT told.*, :now FROM unnest(CAST(:ids AS uuid[]), CAST(:sources AS text[]), CAST(:events AS uuid[])) AS told
    ON CONFLICT DO NOTHING
    """
)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Payments that are booked already, locked, with what is known of them, until the transaction ends."""

    tellings: Sequence[tuple[int, IncomingPayment]]  # with their places among all that are being booked
    rows: dict[tuple[str, str], Row[Any]]  # by (short code, receipt)


async def lock_repeats(connection: AsyncConnection, tellings: Sequence[tuple[int, IncomingPayment]]) -> Repeats:
    """Locks what is booked of these receipts. Before anything is posted: all services lock payments before ledger accounts."""
    keys = sorted({(payment.short_code, payment.receipt) for _, payment in tellings})
    if not keys:
        return Repeats(tellings, {})
    found = await connection.execute(_LOCK, {"short_codes": [key[0] for key in keys], "receipts": [key[1] for key in keys]})
    return Repeats(tellings, {(row.short_code, row.receipt): row for row in found})


async def take_repeats(connection: AsyncConnection, runtime: Runtime, repeats: Repeats) -> dict[int, Booking]:
    """Completes the payments by what these tellings add, keeps who told, opens cases where they contradict.

    Returns what each did, by its place. Repeats do nothing.
    """
    known = {key: _known(runtime, row) for key, row in repeats.rows.items()}
    before = dict(known)
    verdicts: dict[int, Booking] = {}
    cases: list[NewCase] = []
    for place, payment in repeats.tellings:
        key = (payment.short_code, payment.receipt)
        first = Money(repeats.rows[key].amount_cents)
        contradicted = contradictions(known[key], first, payment)
        if contradicted:
            cases.append(_case(payment, known[key], first, contradicted))
        if "amount" in contradicted:
            verdicts[place] = Booking.CONFLICT
        else:
            verdicts[place] = Booking.DUPLICATE
            known[key] = merged(known[key], facts_of(payment))
    completed = {repeats.rows[key].id: facts for key, facts in known.items() if facts != before[key]}
    await _complete(connection, runtime, completed)
    named = [row.id for key, row in repeats.rows.items() if _names_now(before[key], known[key])]
    await _match_anew(connection, runtime, named)
    await _keep_tellings(connection, runtime, repeats)
    # A pull tells the same every quarter of an hour: what a person has looked into is not a case again.
    await open_unheard_cases(connection, runtime.clock, runtime.new_id, cases, told_by=["delivery"])
    return verdicts


def _known(runtime: Runtime, row: Row[Any]) -> Facts:
    return opened_facts(
        runtime.sealer, row.id, row.bill_reference_sealed, row.payer_phone_sealed, row.payer_name_sealed, row.org_balance_cents
    )


async def _complete(connection: AsyncConnection, runtime: Runtime, completed: dict[UUID, Facts]) -> None:
    if completed:
        rows = [sealed_facts(runtime.sealer, row_id, facts) for row_id, facts in completed.items()]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        await connection.execute(_COMPLETE, {"ids": list(completed), **columns})


def _names_now(before: Facts, now: Facts) -> bool:
    return not before.bill_reference.strip() and bool(now.bill_reference.strip())


async def _match_anew(connection: AsyncConnection, runtime: Runtime, ids: Sequence[UUID]) -> None:
    """Has the accounts of these payments looked for. A worker that has begun to without their reference writes nothing."""
    if ids:
        anew = await connection.execute(_MATCH_ANEW, {"ids": list(ids)})
        await begin_anew(connection, runtime.clock, COLLECTION_CALL, list(anew.scalars()))


async def _keep_tellings(connection: AsyncConnection, runtime: Runtime, repeats: Repeats) -> None:
    if repeats.tellings:
        values = {
            "now": runtime.clock.now(),
            "ids": [repeats.rows[payment.short_code, payment.receipt].id for _, payment in repeats.tellings],
            "sources": [payment.source for _, payment in repeats.tellings],
            "events": [payment.event_id for _, payment in repeats.tellings],
        }
        await connection.execute(_TELL, values)


def _case(payment: IncomingPayment, known: Facts, first: Money, contradicted: Sequence[str]) -> NewCase:
    evidence: dict[str, Any] = {"differs_in": list(contradicted), "source": payment.source, "delivery": str(payment.event_id)}
    if "amount" in contradicted:
        evidence |= {"booked": str(first), "now_told": str(payment.amount)}
    if "bill reference" in contradicted:
        references = {"booked": known.bill_reference, "now_told": payment.bill_reference}
        evidence |= {f"{word}_reference": mask_reference(text) for word, text in references.items()}
    return NewCase(
        kind=CONFLICT_CASE,
        subject=f"{payment.short_code} {payment.receipt}",
        partner_id=payment.partner_id,
        amount=payment.amount,
        evidence=evidence,
    )
