"""The outbox handler that takes a wrongly posted payment out of its account in Mifos X, as people agreed (assigning.py).

The account is read before each call and after it: what is undone already, by us or by hand, is not undone again, and only what
Mifos X shows as reversed moves our books. Then the money is in suspense, and posted anew where an account was named.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.clients.mifos import LoanTransaction, MifosClient
from vault_core.collections.core_payments import CORRECTED_CASE
from vault_core.collections.decision_rows import Decision, end_decisions, read_decision
from vault_core.collections.intended_posting import Target, intend_assigned
from vault_core.collections.masking import mask_reference
from vault_core.collections.named_account import read_account, why_not_taken
from vault_core.collections.overpayment import Overpayment
from vault_core.collections.pending import LivingPosting, PendingCollection, load_pending
from vault_core.collections.settling import HandedOver, not_posted_case
from vault_core.collections.suspense import Unplaced, open_unmatched, take_in
from vault_core.database import in_transaction
from vault_core.errors import NotFound, VaultError
from vault_core.ledger.posting import post, reversal_of
from vault_core.outbox.apart import work_apart
from vault_core.outbox.calls import Again, Call, CallResult, Done, record_results
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.collection_settings import load_collection_settings
from vault_core.partners.connections import Connections
from vault_core.postings.mifos_outages import again_after
from vault_core.runtime import Runtime

NOT_MOVED_CASE = "collection_not_moved"
_IN_FLIGHT = 5


@dataclass(frozen=True, slots=True)
class _Undone:
    """Mifos X shows these postings as reversed; `refused` is why it keeps another one."""

    postings: tuple[LivingPosting, ...]
    refused: str | None = None


_TRANSACTION_IDS = text("SELECT id, mifos_transaction_id, transaction_date FROM core_postings WHERE id = ANY(:ids)")
_UNDO = text(
    """
    UPDATE core_postings SET state = 'undone', undone = undone || mifos_transaction_id, last_answer = :why
    WHERE id = ANY(:ids) AND state = 'posted' RETURNING id
    """
)
_LOCK = text("SELECT state FROM collections WHERE id = :id FOR UPDATE")
_BACK = text(
    """
    UPDATE collections SET state = :state, in_suspense = :in_suspense, posted_at = NULL, new_balance_cents = NULL,
           reason = :reason
    WHERE id = :id
    """
)
# The booking of the payment as posted: under the name of its first living posting.
_BOOKED = text(
    """
    SELECT k.transaction_id,
           EXISTS (SELECT FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
                   WHERE e.transaction_id = k.transaction_id AND a.code = 'suspense') AS from_suspense
    FROM ledger_keys k WHERE k.scope = :partner_id AND k.key = 'posted:' || :external_id
    """
)


async def undo_postings(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    """Carries out the agreed moves that the claimed `calls` (kind 'collection.undo', by decision) are about.

    Safe to repeat at any point. A move that Mifos X refuses ends as failed, with a case; the money stays where it is.
    """
    await work_apart(calls, _IN_FLIGHT, partial(_each, runtime, connections))


async def _each(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    for call in calls:
        await _move(runtime, connections, call)


async def _move(runtime: Runtime, connections: Connections, call: Call) -> None:
    async with runtime.engine.connect() as connection:
        decision = await read_decision(connection, call.subject)
        one = (await load_pending(connection, runtime, [decision.collection_id]))[decision.collection_id]
    if decision.state != "approved" or one.state != "posted":
        return await _record(runtime, call, Done())
    try:
        client = await connections.mifos(one.partner_id)
        undone = await _undo_all(runtime, connections, client, one)
        target, kept = await _target(runtime, client, one, decision)
    except VaultError as error:
        again = (await again_after(runtime, connections, {call.id: (one.partner_id, error)}))[call.id]
        return await _put_off(runtime, call, one, decision, again)
    if isinstance(undone, Again):
        return await _put_off(runtime, call, one, decision, undone)

    async def work(connection: AsyncConnection) -> None:
        if not await _is_still_to_move(connection, decision):
            pass  # a worker that had the call before, and was slower than its lease, has ended it
        elif undone.postings:
            await _book(connection, runtime, one, decision, undone, target, kept)
        else:
            await _refuse(connection, runtime, one, decision, undone.refused or "nothing of it stands in Mifos X")
        await record_results(connection, runtime, {call: Done()})

    return await in_transaction(runtime.engine, work)


async def _undo_all(runtime: Runtime, connections: Connections, client: MifosClient, one: PendingCollection) -> _Undone | Again:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(_TRANSACTION_IDS, {"ids": [posting.id for posting in one.postings]})
        known = {row.id: row for row in rows}
    ours = {row.mifos_transaction_id for row in known.values()}
    gone: list[LivingPosting] = []
    for posting in one.postings:
        row = known[posting.id]
        async with connections.mifos_writes(one.partner_id):
            outcome = await _undo(client, posting, row.mifos_transaction_id, row.transaction_date, receipt=one.receipt, ours=ours)
        match outcome:
            case Accepted():
                gone.append(posting)
            case Refused(refusal=Refusal.TERMINAL):
                return _Undone(tuple(gone), f"{outcome.code}: {outcome.reason}")
            case Refused():
                return Again(f"{outcome.code}: {outcome.reason}")
            case Unknown():
                return Again(outcome.cause)
    return _Undone(tuple(gone))


async def _undo(
    client: MifosClient, posting: LivingPosting, transaction_id: int, on: date, *, receipt: str, ours: Collection[int]
) -> Outcome[None]:
    if await _is_gone(client, posting, transaction_id):
        return await _unless_entered_again(client, posting, receipt, ours)
    if posting.kind == "repayment":
        outcome = await client.undo_repayment(posting.account_id, transaction_id, on=on)
    else:
        outcome = await client.undo_deposit(posting.account_id, transaction_id)
    if isinstance(outcome, Unknown):
        return outcome
    # A refusal may be about one that was undone meanwhile, and an acceptance is believed when it shows.
    if await _is_gone(client, posting, transaction_id):
        return Accepted(None)
    return outcome if isinstance(outcome, Refused) else Unknown("Mifos X answered that it is undone, and still shows it standing")


async def _is_gone(client: MifosClient, posting: LivingPosting, transaction_id: int) -> bool:
    """Whether it does not stand any more. One whose loan was put back to approved leaves the list altogether."""
    return all(each.id != transaction_id for each in await _standing(client, posting))


async def _unless_entered_again(
    client: MifosClient, posting: LivingPosting, receipt: str, ours: Collection[int]
) -> Outcome[None]:
    """Of one that somebody else undid: corrected, the same receipt stands there anew, and moved it would count twice."""
    for each in await _standing(client, posting):
        if each.receipt == receipt and each.kind == posting.kind and each.id not in ours:
            words = f"somebody undid it and entered it again as transaction {each.id} of {each.amount}: undo that one first"
            return Refused("entered_again", words, Refusal.TERMINAL)
    return Accepted(None)


async def _standing(client: MifosClient, posting: LivingPosting) -> list[LoanTransaction]:
    if posting.kind == "repayment":
        transactions = (await client.loan(posting.account_id)).transactions
    else:
        transactions = (await client.savings_account(posting.account_id)).transactions
    return [each for each in transactions if not each.reversed]


async def _target(
    runtime: Runtime, client: MifosClient, one: PendingCollection, decision: Decision
) -> tuple[Target | None, str | None]:
    """The account that it goes to, as it is now; or None, with why that takes it no longer, if one was named."""
    if decision.target is None:
        return None, None
    async with runtime.engine.connect() as connection:
        settings = (await load_collection_settings(connection, [one.partner_id]))[one.partner_id]
    try:
        named = await read_account(client, decision.target.kind, decision.target.id)
    except NotFound as error:
        return None, str(error)
    refused = why_not_taken(named, one.amount, Overpayment(settings.overpayment), post_all=decision.post_all)
    return (named.target, None) if refused is None else (None, refused)


async def _book(
    connection: AsyncConnection,
    runtime: Runtime,
    one: PendingCollection,
    decision: Decision,
    undone: _Undone,
    target: Target | None,
    kept: str | None,
) -> None:
    """What follows from postings that are undone: our books, the payment's state and case, and its next posting."""
    why = f"moved out of {one.account_words} by {decision.proposed_by}: {decision.reason}"
    gone = await connection.execute(_UNDO, {"ids": [posting.id for posting in undone.postings], "why": why[:500]})
    booked = (await connection.execute(_BOOKED, {"partner_id": one.partner_id, "external_id": one.postings[0].external_id})).one()
    whole = len(gone.all()) == len(one.postings)
    state = "suspense" if whole else "needs_review"
    reason = why if whole else f"{why}; Mifos X keeps a part of it: {undone.refused}"
    values = {"id": one.id, "state": state, "in_suspense": whole or booked.from_suspense, "reason": reason[:500]}
    await connection.execute(_BACK, values)
    await close_cases(connection, runtime.clock, [(NOT_MOVED_CASE, one.subject)], resolution="undone in Mifos X after all")
    if whole:
        await close_cases(connection, runtime.clock, [(CORRECTED_CASE, one.subject)], resolution=f"the payment was {why}"[:500])
    turn = f":{one.postings[0].external_id}"
    reversal = await reversal_of(
        connection, booked.transaction_id, key=f"unposted{turn}", effective_at=runtime.clock.now(), why=decision.reason
    )
    await post(connection, runtime, [reversal])
    unplaced = _unplaced(one, decision, reason, turn)
    if booked.from_suspense:
        await open_unmatched(connection, runtime, [unplaced])
    elif whole:
        await take_in(connection, runtime, [unplaced])
    moved = (await load_pending(connection, runtime, [one.id]))[one.id]
    if not whole:
        case = not_posted_case(HandedOver(moved, reason))
        await open_cases(connection, runtime.clock, runtime.new_id, [case])
        await end_decisions(connection, runtime, {one.id: reason}, "failed")
    elif target is not None:
        await intend_assigned(connection, runtime, moved, target, post_all=decision.post_all)
    else:
        effect = "undone in Mifos X; the money is in suspense" + ("" if kept is None else f", because {kept}")
        await end_decisions(connection, runtime, {one.id: effect}, "done" if kept is None else "failed")


async def _is_still_to_move(connection: AsyncConnection, decision: Decision) -> bool:
    """Locks the payment, and says whether what was agreed on still waits to be undone."""
    state = (await connection.execute(_LOCK, {"id": decision.collection_id})).scalar_one()
    return bool(state == "posted") and (await read_decision(connection, decision.id)).state == "approved"


def _unplaced(one: PendingCollection, decision: Decision, reason: str, turn: str) -> Unplaced:
    evidence = {
        "reference": mask_reference(one.bill_reference),
        "moved_from": one.account_words,
        "agreed_by": sorted({decision.proposed_by, decision.decided_by or decision.proposed_by}),
    }
    return Unplaced(one.id, one.partner_id, one.short_code, one.receipt, one.amount, reason[:500], "posted", evidence, turn)


async def _refuse(
    connection: AsyncConnection, runtime: Runtime, one: PendingCollection, decision: Decision, refused: str
) -> None:
    case = NewCase(
        kind=NOT_MOVED_CASE,
        subject=one.subject,
        partner_id=one.partner_id,
        amount=one.amount,
        evidence={
            "collection": str(one.id),
            "posted_to": one.account_words,
            "move_to": "suspense" if decision.target is None else str(decision.target),
            "refused": refused,
            "reason": decision.reason,
        },
    )
    await open_cases(connection, runtime.clock, runtime.new_id, [case])
    await end_decisions(connection, runtime, {one.id: f"not moved: {refused}"}, "failed")


async def _put_off(runtime: Runtime, call: Call, one: PendingCollection, decision: Decision, again: Again) -> None:
    """Another try later; after the last one a person hears that nothing is known to have moved."""

    async def work(connection: AsyncConnection) -> None:
        if again.counted and call.last_try and await _is_still_to_move(connection, decision):
            why = f"given up after {call.tries} tries: {again.cause}; `move` it again to look anew"
            await _refuse(connection, runtime, one, decision, why)
        await record_results(connection, runtime, {call: again})

    await in_transaction(runtime.engine, work)


async def _record(runtime: Runtime, call: Call, result: CallResult) -> None:
    async def work(connection: AsyncConnection) -> None:
        await record_results(connection, runtime, {call: result})

    await in_transaction(runtime.engine, work)
