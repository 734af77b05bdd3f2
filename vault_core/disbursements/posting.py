"""Posting paid disbursements to Mifos X, and what follows: the ledger, the client's text, the partner's."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.attempts import again
from vault_core.disbursements.intended_posting import POST_CALL
from vault_core.disbursements.states import State, require_move
from vault_core.disbursements.telling import client_text_values
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.notifications.messages import NewMessage, write_messages
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.outbox.apart import work_apart
from vault_core.outbox.calls import Again, Call, CallResult, Done, record_results
from vault_core.outbox.retry_schedule import next_wait
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner, load_partners
from vault_core.postings.core_posting import execute_each
from vault_core.postings.posting_outcome import GivenUp, InMifos, PostingOutcome, TryLater
from vault_core.postings.posting_rows import postings_of
from vault_core.runtime import Runtime

UNPOSTED = "disbursement_unposted"
IN_FLIGHT = 40  # calls that share one lease
_NOTHING = GivenUp("it has no intended posting")


@dataclass(frozen=True, slots=True)
class _Paid:
    id: UUID
    partner_id: UUID
    loan_id: int
    loan_account_no: str
    state: State
    principal: Money
    payout: Money
    payoff: Money  # of a top-up: what of the principal pays off the older loan
    receipt: str
    paid_at: datetime
    charges: Money
    external_id: str
    taken_back: int
    phone: str = field(repr=False)
    client_name: str = field(repr=False)


_POSTING = text("UPDATE disbursements SET state = 'posting' WHERE id = ANY(:ids) AND state IN ('paid', 'posting')")
_READ = text(
    """
    SELECT d.id, d.partner_id, d.loan_id, d.loan_account_no, d.state, d.principal_cents, d.payout_cents, d.payoff_cents,
           d.receipt, d.paid_at, d.taken_back, d.phone_sealed, d.client_name_sealed, p.external_id,
           (SELECT coalesce(sum(c.amount_cents), 0)::bigint FROM charge_lines c
            WHERE c.subject_kind = 'disbursement' AND c.subject_id = d.id AND c.charged_at IS NOT NULL
                  AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = c.transaction_id)) AS charges_cents
    FROM disbursements d JOIN core_postings p ON p.kind = 'disburse' AND p.subject_id = d.id AND p.state <> 'undone'
    WHERE d.id = ANY(:ids) ORDER BY d.id FOR UPDATE OF d
    """
)
_DISBURSED = text(
    """
    UPDATE disbursements SET state = 'disbursed', reason = NULL, posted_at = :now,
           next_tranche_at = CASE WHEN of_tranches THEN CAST(:now AS timestamptz) END
    WHERE id = ANY(:ids)
    """
)
_REVIEW = text(
    """
    UPDATE disbursements SET state = 'needs_review', reason = review.reason, due_at = :look_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS review(id, reason) WHERE disbursements.id = review.id
    """
)


async def post_disbursements(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    """Executes claimed calls 'disbursement.post' (their subject is the disbursement) and records how each went.

    Posted: the disbursement is over, the ledger follows, client and partner are texted. Refused for good, or still not posted
    after the last try: a case with everything needed to post it by hand. Otherwise the call comes again; while Mifos X is away
    it waits, and that is no try. One that fails for a reason nobody foresaw is raised when the others are done
    (vault_core/outbox/apart.py).
    """
    await work_apart(calls, IN_FLIGHT, partial(_post_all, runtime, connections))


async def book_seen_posted(connection: AsyncConnection, runtime: Runtime, ids: Sequence[UUID]) -> int:
    """What follows a posting that was found in Mifos X without a call of ours, for disbursements with a person; how many."""
    rows = [_paid(runtime, row) for row in await connection.execute(_READ, {"ids": list(ids)})]
    seen = [paid for paid in rows if paid.state is State.NEEDS_REVIEW]
    await _book_posted(connection, runtime, seen, await load_partners(connection, list({paid.partner_id for paid in seen})))
    return len(seen)


async def _post_all(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    subjects = [call.subject for call in calls]

    async def begin(connection: AsyncConnection) -> Mapping[UUID, UUID]:
        await connection.execute(_POSTING, {"ids": subjects})
        return await postings_of(connection, ["disburse"], subjects)

    posting_of = await in_transaction(runtime.engine, begin)
    call_of = {posting_of[call.subject]: call for call in calls if call.subject in posting_of}
    unknown = [call for call in calls if call.subject not in posting_of]
    if unknown:
        await _end(runtime, dict.fromkeys(unknown, _NOTHING))
    async with aclosing(execute_each(runtime, connections, list(call_of))) as answers:
        async for some in answers:
            await _end(runtime, {call_of[posting_id]: outcome for posting_id, outcome in some.items()})


async def _end(runtime: Runtime, outcomes: Mapping[Call, PostingOutcome]) -> None:
    async def finish(connection: AsyncConnection) -> None:
        await _finish(connection, runtime, outcomes)

    await in_transaction(runtime.engine, finish)


async def _finish(connection: AsyncConnection, runtime: Runtime, outcomes: Mapping[Call, PostingOutcome]) -> None:
    rows = {row.id: _paid(runtime, row) for row in await connection.execute(_READ, {"ids": [call.subject for call in outcomes]})}
    partners = await load_partners(connection, list({paid.partner_id for paid in rows.values()}))
    results: dict[Call, CallResult] = {}
    posted: list[_Paid] = []
    lost: list[tuple[_Paid, str]] = []
    for call, outcome in outcomes.items():
        paid = rows.get(call.subject)
        results[call] = _result(runtime, call, outcome)
        if paid is None:
            continue
        if isinstance(outcome, InMifos):
            posted += [paid] if paid.state is not State.DISBURSED else []
        elif _is_lost(call, outcome):
            lost.append((paid, outcome.cause))
    await _book_posted(connection, runtime, posted, partners)
    await _give_to_people(connection, runtime, lost)
    await record_results(connection, runtime, results)


def _is_lost(call: Call, outcome: PostingOutcome) -> bool:
    return isinstance(outcome, GivenUp) or (call.last_try and isinstance(outcome, TryLater) and outcome.counted)


def _result(runtime: Runtime, call: Call, outcome: PostingOutcome) -> CallResult:
    if not isinstance(outcome, TryLater):
        return Done()  # what was given up has its case, and is over as a call
    if outcome.wait is None:
        return Again(outcome.cause, counted=outcome.counted)
    # Never sooner than the schedule: short waits for a busy account would use up the tries in seconds.
    wait = max(outcome.wait, next_wait(call.tries, runtime.pace, runtime.chance))
    return Again(outcome.cause, wait, counted=outcome.counted)


async def _book_posted(
    connection: AsyncConnection, runtime: Runtime, posted: Sequence[_Paid], partners: Mapping[UUID, Partner]
) -> None:
    if not posted:
        return
    for paid in posted:
        require_move(paid.state, State.DISBURSED, f"loan {paid.loan_account_no}")
    await connection.execute(_DISBURSED, {"now": runtime.clock.now(), "ids": [paid.id for paid in posted]})
    await post(connection, runtime, [_posting(paid) for paid in posted])
    await write_messages(connection, runtime, [_client_text(paid, partners[paid.partner_id]) for paid in posted if paid.phone])
    await tell_partners(connection, runtime, [_partner_text(paid, partners[paid.partner_id]) for paid in posted])
    for paid in posted:
        if paid.state is State.NEEDS_REVIEW:
            cases = [(UNPOSTED, f"disbursement {paid.id}"), ("call_given_up", f"{POST_CALL} {paid.id}")]
            seen = f"seen posted in Mifos X, receipt {paid.receipt} or external id {paid.external_id}"
            await close_cases(connection, runtime.clock, cases, resolution=seen)


async def _give_to_people(connection: AsyncConnection, runtime: Runtime, lost: Sequence[tuple[_Paid, str]]) -> None:
    lost = [(paid, cause) for paid, cause in lost if paid.state not in {State.DISBURSED, State.NEEDS_REVIEW}]
    if not lost:
        return
    for paid, _ in lost:
        require_move(paid.state, State.NEEDS_REVIEW, f"loan {paid.loan_account_no}")
    await connection.execute(
        _REVIEW,
        {
            "ids": [paid.id for paid, _ in lost],
            "look_at": runtime.clock.now() + timedelta(seconds=runtime.pace.unposted_look_every),
            "reasons": [f"paid, but not posted to Mifos X: {cause}"[:500] for _, cause in lost],
        },
    )
    await open_cases(connection, runtime.clock, runtime.new_id, [_case(paid, cause) for paid, cause in lost])


def _posting(paid: _Paid) -> Posting:
    lent = paid.principal - paid.payoff  # what a top-up lends for the older loan comes back to the book at once
    kept_back = lent - paid.payout
    legs = [
        Leg(AccountRef(paid.partner_id, "loan_book"), lent.cents),
        Leg(AccountRef(paid.partner_id, "disbursed_unposted"), -paid.payout.cents),
    ]
    if kept_back:
        legs.append(Leg(AccountRef(paid.partner_id, "loan_charges"), -kept_back.cents))
    return Posting(
        partner_id=paid.partner_id,
        kind="disbursement_posted",
        key=f"posted:{paid.external_id}",
        reference=paid.receipt,
        effective_at=paid.paid_at,
        legs=tuple(legs),
        description=f"loan {paid.loan_account_no}",
    )


def _client_text(paid: _Paid, partner: Partner) -> NewMessage:
    return NewMessage(
        partner=partner,
        business_key=f"disbursed:{paid.id}:client{again(paid.taken_back)}",
        template="loan_disbursed",
        phone=paid.phone,
        values=client_text_values(paid.client_name, paid.payout, paid.loan_account_no, paid.receipt),
    )


def _partner_text(paid: _Paid, partner: Partner) -> PartnerText:
    values = client_text_values(paid.client_name, paid.payout, paid.loan_account_no, paid.receipt)
    fact = f"disbursed:{paid.id}{again(paid.taken_back)}"
    return PartnerText(partner, fact, "disbursement_done", {**values, "charges": str(paid.charges)})


def _case(paid: _Paid, cause: str) -> NewCase:
    return NewCase(
        kind=UNPOSTED,
        subject=f"disbursement {paid.id}",
        partner_id=paid.partner_id,
        amount=paid.payout,
        evidence={
            "cause": cause[:500],
            "do": "mend the cause and `vault disbursements resume`, or disburse it in Mifos X by hand with these figures: "
            "with the receipt in its payment details it is found there, and this case closes by itself",
            "loan_id": paid.loan_id,
            "loan_account_no": paid.loan_account_no,
            "principal": str(paid.principal),
            "under_day": business_day(paid.paid_at).isoformat(),
            "receipt": paid.receipt,
            "paid_at": paid.paid_at.isoformat(),
            "external_id": paid.external_id,
        },
    )


def _paid(runtime: Runtime, row: Row[Any]) -> _Paid:
    def opened(sealed: bytes | None, column: str) -> str:
        return runtime.sealer.open_text(sealed, bound_to=f"disbursements:{row.id}:{column}") if sealed is not None else ""

    return _Paid(
        id=row.id,
        partner_id=row.partner_id,
        loan_id=row.loan_id,
        loan_account_no=row.loan_account_no,
        state=State(row.state),
        principal=Money(row.principal_cents),
        payout=Money(row.payout_cents),
        payoff=Money(row.payoff_cents or 0),
        receipt=row.receipt,
        paid_at=row.paid_at,
        charges=Money(row.charges_cents),
        external_id=row.external_id,
        taken_back=row.taken_back,
        phone=opened(row.phone_sealed, "phone_sealed"),
        client_name=opened(row.client_name_sealed, "client_name_sealed"),
    )
