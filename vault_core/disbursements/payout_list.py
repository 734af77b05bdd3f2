"""Disbursements as people list them: state, what each waits for, since when, and what to do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.next_step import Circumstances, NextStep, next_step
from vault_core.disbursements.payout_halt import halt_in_force
from vault_core.disbursements.result_classes import refused_for_good
from vault_core.disbursements.states import AttemptState, State
from vault_core.money import Money
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class ListedPayout:
    """One disbursement. `phone` is masked. `since`: when its present wait began, as far as the rows tell."""

    id: UUID
    partner: str
    loan_account_no: str
    loan_id: int
    tranche: int
    payout: Money
    principal: Money
    state: State
    held_for: HeldFor | None
    reason: str | None
    phone: str | None
    found_by: str
    detected_at: datetime
    since: datetime
    due_at: datetime
    instructions: int
    receipt: str | None
    paid_at: datetime | None
    posted_at: datetime | None
    next: NextStep


_LIST = text(
    """
    SELECT d.id, p.name AS partner, d.loan_account_no, d.loan_id, d.tranche, d.payout_cents, d.principal_cents, d.state,
           d.held_for, d.reason, d.phone_sealed, d.found_by, d.detected_at, d.due_at, d.receipt, d.paid_at, d.posted_at,
           a.state AS attempt_state, a.maybe_seen, a.written_at, a.result_at, a.result_code,
           (SELECT count(*) FROM disbursement_attempts c WHERE c.disbursement_id = d.id)::integer AS instructions,
           (SELECT max(f.receipt) FROM disbursement_attempts f
            WHERE f.disbursement_id = d.id AND f.state = 'failed') AS late_receipt,
           (SELECT max(r.proposed_by) FROM disbursement_resolutions r
            WHERE r.disbursement_id = d.id AND r.state = 'proposed') AS proposed_by,
           (SELECT max(c.not_before) FROM core_postings c
            WHERE c.kind = 'disburse' AND c.subject_id = d.id AND c.state = 'unknown') AS posted_from,
           EXISTS (SELECT FROM cases c WHERE c.kind = 'paid_amount_differs' AND c.closed_at IS NULL
                   AND c.subject = 'disbursement ' || d.id) AS paid_otherwise,
           (SELECT o.since FROM outbox_outages o WHERE o.partner_id = d.partner_id AND o.topic = :mifos) AS away_since
    FROM disbursements d JOIN partners p ON p.id = d.partner_id
    LEFT JOIN LATERAL (SELECT s.state, s.maybe_seen, s.written_at, s.result_at, s.result_code FROM disbursement_attempts s
                       WHERE s.disbursement_id = d.id ORDER BY s.state = 'failed', s.number DESC LIMIT 1) a ON true
    WHERE (CAST(:id AS uuid) IS NULL OR d.id = :id)
          AND (CAST(:partner AS text) IS NULL OR p.name = :partner)
          AND (CAST(:state AS text) IS NULL OR d.state = :state)
          AND (CAST(:held_for AS text) IS NULL OR d.held_for = :held_for)
          AND (CAST(:since AS timestamptz) IS NULL OR d.detected_at >= :since)
          AND (NOT :open_only OR d.state <> 'disbursed')
    ORDER BY CASE WHEN :open_only THEN d.detected_at END, d.detected_at DESC, d.loan_id LIMIT :most
    """
)
_EVERY_OPEN_ONE = 100_000


async def list_payouts(
    connection: AsyncConnection,
    runtime: Runtime,
    *,
    partner: str | None = None,
    state: State | None = None,
    held_for: HeldFor | None = None,
    since: datetime | None = None,
    stuck: bool = False,
    most: int = 100,
) -> list[ListedPayout]:
    """The newest `most` disbursements that were found `since` then, or of those that are stuck the oldest."""
    found = await _read(
        connection,
        runtime,
        partner=partner,
        state=state,
        held_for=held_for,
        since=since,
        open_only=stuck,
        most=_EVERY_OPEN_ONE if stuck else most,
    )
    return [one for one in found if one.next.stuck or not stuck][:most]


async def listed_payout(connection: AsyncConnection, runtime: Runtime, disbursement_id: UUID) -> ListedPayout:
    """One disbursement that exists, as the list shows it."""
    (one,) = await _read(connection, runtime, id=disbursement_id, most=1)
    return one


async def _read(
    connection: AsyncConnection,
    runtime: Runtime,
    *,
    id: UUID | None = None,  # noqa: A002
    partner: str | None = None,
    state: State | None = None,
    held_for: HeldFor | None = None,
    since: datetime | None = None,
    open_only: bool = False,
    most: int,
) -> list[ListedPayout]:
    halted = await halt_in_force(connection) is not None
    rows = await connection.execute(
        _LIST,
        {
            "id": id,
            "partner": partner,
            "state": state,
            "held_for": held_for,
            "since": since,
            "open_only": open_only,
            "most": most,
            "mifos": MIFOS_TOPIC,
        },
    )
    now = runtime.clock.now()
    return [_listed(runtime, row, now, halted=halted) for row in rows]


def _listed(runtime: Runtime, row: Row[Any], now: datetime, *, halted: bool) -> ListedPayout:
    state = State(row.state)
    held_for = None if row.held_for is None else HeldFor(row.held_for)
    since = _since(state, row)
    circumstances = Circumstances(
        state=state,
        held_for=held_for,
        reason=row.reason,
        partner=row.partner,
        since=since,
        due_at=row.due_at,
        doubtful=_doubtful(row),
        paid=row.attempt_state == AttemptState.PAID,
        paid_otherwise=row.paid_otherwise,
        for_good=row.attempt_state == AttemptState.FAILED and refused_for_good(row.result_code),
        said_paid_late=row.late_receipt,
        proposed_by=row.proposed_by,
        halted=halted,
        posted_from=row.posted_from,
        away_since=row.away_since,
    )
    phone = None
    if row.phone_sealed is not None:
        phone = mask_phone(runtime.sealer.open_text(row.phone_sealed, bound_to=f"disbursements:{row.id}:phone_sealed"))
    return ListedPayout(
        id=row.id,
        partner=row.partner,
        loan_account_no=row.loan_account_no,
        loan_id=row.loan_id,
        tranche=row.tranche,
        payout=Money(row.payout_cents),
        principal=Money(row.principal_cents),
        state=state,
        held_for=held_for,
        reason=row.reason,
        phone=phone,
        found_by=row.found_by,
        detected_at=row.detected_at,
        since=since,
        due_at=row.due_at,
        instructions=row.instructions,
        receipt=row.receipt,
        paid_at=row.paid_at,
        posted_at=row.posted_at,
        next=next_step(now, circumstances, runtime.pace),
    )


def _doubtful(row: Row[Any]) -> bool:
    if row.attempt_state in {None, AttemptState.FAILED, AttemptState.PAID}:
        return False
    return bool(row.attempt_state != AttemptState.REFUSED or row.maybe_seen)


def _since(state: State, row: Row[Any]) -> datetime:
    by_state = {
        State.SENDING: row.written_at,
        State.ACCEPTED: row.written_at,
        State.UNKNOWN: row.written_at,
        State.FAILED: row.result_at,
        State.PAID: row.paid_at,
        State.POSTING: row.paid_at,
        State.DISBURSED: row.posted_at,
    }
    since: datetime = by_state.get(state) or row.written_at or row.detected_at
    return since
