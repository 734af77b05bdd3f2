"""Disbursements that may be sent now, locked, with what the decision to send them needs to know."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import business_day, day_bounds
from vault_core.disbursements.eligibility import ProductRules
from vault_core.disbursements.states import AttemptState
from vault_core.money import ZERO, Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class OpenInstruction:
    """An instruction of the candidate that is not known to be dead: the only one that may be sent."""

    id: UUID
    number: int
    originator_conversation_id: str
    state: AttemptState
    maybe_seen: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ready disbursement, locked."""

    id: UUID
    partner_id: UUID
    loan_id: int
    loan_account_no: str
    tranche: int
    product_id: int
    principal: Money
    payout: Money
    approved_on: date
    tries: int
    phone_hash: bytes | None
    phone: str = field(repr=False)
    client_name: str = field(repr=False)
    open_instruction: OpenInstruction | None
    client_id: int | None
    detected_at: datetime
    taken_back: int
    older_loan_id: int | None  # of a top-up: the loan that it pays off
    expected_day_only: bool  # the product takes a disbursal under the loan's expected day only
    late_receipt: str | None  # of an earlier instruction that failed and was then said to be paid (late_payment.py)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which ready disbursements: those of a batch, or these."""

    batch_id: UUID | None = None
    ids: tuple[UUID, ...] | None = None


_TAKE_TURNS = text("SELECT pg_advisory_xact_lock(hashtextextended('disbursement claim ' || CAST(:partner AS text), 0))")
_READY = text(
    """
    SELECT d.id, d.partner_id, d.loan_id, d.loan_account_no, d.tranche, d.product_id, d.principal_cents, d.payout_cents,
           d.approved_on, d.tries, d.taken_back, d.client_id, d.detected_at, d.phone_hash, d.phone_sealed, d.client_name_sealed,
           d.older_loan_id, coalesce(q.expected_day_only, false) AS expected_day_only,
           a.id AS attempt_id, a.number, a.originator_conversation_id, a.state AS attempt_state, a.maybe_seen,
           (SELECT max(f.receipt) FROM disbursement_attempts f
            WHERE f.disbursement_id = d.id AND f.state = 'failed') AS late_receipt
    FROM disbursements d LEFT JOIN disbursement_attempts a
         ON a.disbursement_id = d.id AND a.state IN ('written', 'accepted', 'unknown', 'refused', 'paid')
         LEFT JOIN partner_products q ON q.partner_id = d.partner_id AND q.product_id = d.product_id
    WHERE d.partner_id = :partner_id AND d.state = 'ready' AND d.due_at <= :now
          AND (CAST(:batch_id AS uuid) IS NULL OR d.batch_id = :batch_id) AND (CAST(:ids AS uuid[]) IS NULL OR d.id = ANY(:ids))
    ORDER BY CASE CAST(:first AS text) WHEN 'largest' THEN -d.payout_cents WHEN 'smallest' THEN d.payout_cents ELSE 0 END,
             d.detected_at, d.loan_id
    LIMIT :most FOR UPDATE OF d SKIP LOCKED
    """
)
_PAYEES = text(
    """
    SELECT d.phone_hash, d.id, d.loan_account_no FROM disbursements d JOIN disbursement_attempts a ON a.disbursement_id = d.id
    WHERE d.partner_id = :partner_id AND d.phone_hash = ANY(:hashes)
          AND d.state IN ('held', 'ready', 'sending', 'accepted', 'unknown', 'refused', 'needs_review')
          AND a.state IN ('written', 'accepted', 'unknown', 'refused')
    """
)
_TOP_UPS = text(
    """
    SELECT d.older_loan_id, d.id, d.loan_account_no FROM disbursements d
    WHERE d.partner_id = :partner_id AND d.older_loan_id = ANY(:older) AND d.state <> 'disbursed'
          AND EXISTS (SELECT FROM disbursement_attempts a WHERE a.disbursement_id = d.id AND a.state <> 'failed')
    """
)
_PRODUCTS = text(
    """
    SELECT product_id, name, enabled, active_in_mifos, expected_day_only, min_cents, max_cents, daily_limit_cents
    FROM partner_products
    WHERE partner_id = :partner_id AND product_id = ANY(:ids)
    """
)
_SENT_TODAY = text(
    """
    SELECT d.product_id, sum(a.amount_cents)::bigint AS cents
    FROM disbursement_attempts a JOIN disbursements d ON d.id = a.disbursement_id
    WHERE a.partner_id = :partner_id AND a.written_at >= :since AND a.state <> 'failed' AND d.product_id = ANY(:ids)
    GROUP BY d.product_id
    """
)


async def take_turns(connection: AsyncConnection, partner_id: UUID) -> None:
    """Lets one transaction a partner decide on sending at a time, so that no two send to one payee or pass one limit together."""
    await connection.execute(_TAKE_TURNS, {"partner": str(partner_id)})


async def lock_ready(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, which: Selection, most: int
) -> list[Candidate]:
    """The ready disbursements of the selection that are due and that nobody else has locked, in their turn by the setting."""
    rows = await connection.execute(
        _READY,
        {
            "partner_id": partner_id,
            "now": runtime.clock.now(),
            "batch_id": which.batch_id,
            "ids": list(which.ids) if which.ids is not None else None,
            "most": most,
            "first": runtime.pace.first_served,
        },
    )
    return [_candidate(runtime, row) for row in rows]


async def unresolved_payees(
    connection: AsyncConnection, partner_id: UUID, candidates: Sequence[Candidate]
) -> dict[bytes, dict[UUID, str]]:
    """By payee: the disbursements (id and loan number) with an instruction of any age that may still move money to them."""
    hashes = [candidate.phone_hash for candidate in candidates if candidate.phone_hash is not None]
    found: dict[bytes, dict[UUID, str]] = {}
    for row in await connection.execute(_PAYEES, {"partner_id": partner_id, "hashes": hashes}):
        found.setdefault(bytes(row.phone_hash), {})[row.id] = row.loan_account_no
    return found


async def unposted_top_ups(
    connection: AsyncConnection, partner_id: UUID, candidates: Sequence[Candidate]
) -> dict[int, dict[UUID, str]]:
    """By older loan: the top-ups of it (id and loan number) that were or may be paid, and are not posted in Mifos X yet."""
    older = {candidate.older_loan_id for candidate in candidates if candidate.older_loan_id is not None}
    found: dict[int, dict[UUID, str]] = {}
    if older:
        for row in await connection.execute(_TOP_UPS, {"partner_id": partner_id, "older": list(older)}):
            found.setdefault(row.older_loan_id, {})[row.id] = row.loan_account_no
    return found


async def product_rules(connection: AsyncConnection, partner_id: UUID, product_ids: Sequence[int]) -> dict[int, ProductRules]:
    """The partner's rules of these products."""
    rows = await connection.execute(_PRODUCTS, {"partner_id": partner_id, "ids": list(set(product_ids))})
    return {
        row.product_id: ProductRules(
            name=row.name,
            enabled=row.enabled,
            least=_money(row.min_cents),
            most=_money(row.max_cents),
            daily_limit=_money(row.daily_limit_cents),
            active=row.active_in_mifos,
            expected_day_only=row.expected_day_only,
        )
        for row in rows
    }


async def sent_today(
    connection: AsyncConnection, now: datetime, partner_id: UUID, rules: dict[int, ProductRules]
) -> dict[int, Money]:
    """What was sent since midnight in Nairobi and is not known to have failed, for the products that have a daily limit."""
    limited = [product_id for product_id, product in rules.items() if product.daily_limit is not None]
    if not limited:
        return {}
    since, _ = day_bounds(business_day(now))
    rows = await connection.execute(_SENT_TODAY, {"partner_id": partner_id, "since": since, "ids": limited})
    return dict.fromkeys(limited, ZERO) | {row.product_id: Money(row.cents) for row in rows}


def _money(cents: int | None) -> Money | None:
    return None if cents is None else Money(cents)


def _candidate(runtime: Runtime, row: Row[Any]) -> Candidate:
    def opened(sealed: bytes | None, column: str) -> str:
        return runtime.sealer.open_text(sealed, bound_to=f"disbursements:{row.id}:{column}") if sealed is not None else ""

    instruction = None
    if row.attempt_id is not None:
        instruction = OpenInstruction(
            row.attempt_id, row.number, row.originator_conversation_id, AttemptState(row.attempt_state), row.maybe_seen
        )
    return Candidate(
        id=row.id,
        partner_id=row.partner_id,
        loan_id=row.loan_id,
        loan_account_no=row.loan_account_no,
        tranche=row.tranche,
        product_id=row.product_id,
        principal=Money(row.principal_cents),
        payout=Money(row.payout_cents),
        approved_on=row.approved_on,
        tries=row.tries,
        phone_hash=None if row.phone_hash is None else bytes(row.phone_hash),
        phone=opened(row.phone_sealed, "phone_sealed"),
        client_name=opened(row.client_name_sealed, "client_name_sealed"),
        open_instruction=instruction,
        client_id=row.client_id,
        detected_at=row.detected_at,
        taken_back=row.taken_back,
        older_loan_id=row.older_loan_id,
        expected_day_only=row.expected_day_only,
        late_receipt=row.late_receipt,
    )
