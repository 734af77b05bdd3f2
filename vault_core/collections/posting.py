"""The outbox handler that brings booked payments into Mifos X: find the account, post, text the receipt (DESIGN.md section 5).

How a payment can end, besides posted:
- suspense, with a case `unmatched_payment`: there is no account for it, or Mifos X refused it for good. It is certainly not
  posted, and its money moves to the suspense account.
- needs_review, with a case `collection_not_posted`: the tries are used up, or what stands in Mifos X is not what we meant to
  post. Only a person can tell whether it is posted, and its money stays in collected_unposted.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.collections.account_lookup import look_up
from vault_core.collections.booking import COLLECTION_CALL
from vault_core.collections.entered_by_hand import weigh_entries
from vault_core.collections.intended_posting import intend_postings
from vault_core.collections.masking import mask_reference
from vault_core.collections.matching import Matched, Unmatched
from vault_core.collections.mirror_writing import SeenAccount, note_seen
from vault_core.collections.overpaid_loans import judge_overpayments, write_overpayments
from vault_core.collections.overpayment import Fits, Verdict
from vault_core.collections.pending import PendingCollection, load_pending
from vault_core.collections.posting_ending import Ending, Posted, RefusedForGood, Unclear, ending_of
from vault_core.collections.receipts import Receipt, read_plain_receipt, read_receipt
from vault_core.collections.settling import HandedOver, book_posted, hand_over, write_receipts
from vault_core.collections.suspense import Unplaced, put_in_suspense
from vault_core.database import in_transaction
from vault_core.errors import VaultError
from vault_core.outbox.apart import work_apart
from vault_core.outbox.calls import Again, Call, CallResult, Done, record_results
from vault_core.outbox.retry_schedule import next_wait
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partners
from vault_core.postings.core_posting import execute
from vault_core.postings.mifos_outages import again_after
from vault_core.postings.posting_outcome import TryLater
from vault_core.runtime import Runtime

IN_FLIGHT = 40  # payments that share each reading and each recording
_FRESH = timedelta(minutes=30)  # a payment that is told or placed later may have been entered by hand meanwhile
SIDE_BY_SIDE = 2  # so that Mifos X is not left waiting while the last ones are recorded

Calls = Mapping[UUID, Call]  # by collection


async def post_collections(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    """Brings the collections that the claimed `calls` (kind 'collection.post') are about as far as they go now.

    Safe to repeat at any point: a payment is matched once, posted once (vault_core/postings/core_posting.py) and texted once. A
    partner whose Mifos X fails holds back its own payments only; a payment that fails for a reason nobody foresaw is raised when
    the others are done (vault_core/outbox/apart.py).
    """
    await work_apart(calls, IN_FLIGHT, partial(_advance, runtime, connections), side_by_side=SIDE_BY_SIDE)


async def _advance(runtime: Runtime, connections: Connections, claimed: Sequence[Call]) -> None:
    calls = {call.subject: call for call in claimed}
    pending = await _load(runtime, calls)
    await _match(runtime, connections, calls, [one for one in pending.values() if one.state == "matching"])
    pending = await _load(runtime, calls)
    for turn in _turns([one for one in pending.values() if one.state == "posting"]):
        await _post(runtime, connections, calls, turn)
    await _text(runtime, connections, calls, [one for one in pending.values() if one.state == "posted"])
    await _end(runtime, calls, pending)


async def _load(runtime: Runtime, calls: Calls) -> dict[UUID, PendingCollection]:
    async with runtime.engine.connect() as connection:
        return await load_pending(connection, runtime, list(calls))


async def _match(runtime: Runtime, connections: Connections, calls: Calls, pending: Sequence[PendingCollection]) -> None:
    if not pending:
        return
    matches = await weigh_entries(runtime, connections, pending, await look_up(runtime, connections, pending))
    failed = {one: (one.partner_id, match) for one, match in zip(pending, matches, strict=True) if isinstance(match, VaultError)}
    again = await again_after(runtime, connections, failed)

    async def work(connection: AsyncConnection) -> None:
        found = list(zip(pending, matches, strict=True))
        await intend_postings(connection, runtime, [(one, match.account) for one, match in found if isinstance(match, Matched)])
        unmatched = [(one, match) for one, match in found if isinstance(match, Unmatched)]
        moved = await put_in_suspense(connection, runtime, [_unplaced(one, match) for one, match in unmatched])
        results: dict[PendingCollection, CallResult] = {one: Done() for one, _ in unmatched if one.id in moved}
        await _record(connection, runtime, calls, {**results, **again})

    await in_transaction(runtime.engine, work)


def _unplaced(collection: PendingCollection, match: Unmatched) -> Unplaced:
    candidates = [
        {"kind": one.account.kind, "id": one.account.id, "account_no": one.account.account_no, "score": one.score, "why": one.why}
        for one in match.candidates
    ]
    unplaced = _for_suspense(collection, match.reason, {"candidates": candidates})
    return replace(unplaced, looked_for=collection.bill_reference)


def _refused(collection: PendingCollection, cause: str) -> Unplaced:
    account = collection.account_words
    return _for_suspense(collection, f"Mifos X refused to post it to {account}: {cause}", {"account": account})


def _for_suspense(collection: PendingCollection, reason: str, evidence: dict[str, Any]) -> Unplaced:
    return Unplaced(
        collection_id=collection.id,
        partner_id=collection.partner_id,
        short_code=collection.short_code,
        receipt=collection.receipt,
        amount=collection.amount,
        reason=reason,
        left=collection.state,
        evidence={"reference": mask_reference(collection.bill_reference), **evidence},
    )


def _turns(pending: Sequence[PendingCollection]) -> list[list[PendingCollection]]:
    """`pending` in turns that each hold an account once: Mifos X answers overlapping writes to an account with a conflict."""
    turns: list[dict[tuple[UUID, str | None, int | None], PendingCollection]] = []
    for one in sorted(pending, key=lambda each: (each.happened_at, each.id)):
        turn = next((each for each in turns if one.account not in each), None)
        if turn is None:
            turns.append({one.account: one})
        else:
            turn[one.account] = one
    return [list(turn.values()) for turn in turns]


async def _post(runtime: Runtime, connections: Connections, calls: Calls, pending: Sequence[PendingCollection]) -> None:
    judged = await judge_overpayments(runtime, connections, pending)
    ready, endings = await _settle_overpayments(runtime, connections, calls, pending, judged.verdicts)
    now = runtime.clock.now()
    there = {one.id for one, verdict in judged.verdicts.items() if isinstance(verdict, Fits) and verdict.perhaps_there}
    perhaps_there = [one for one in ready if one.in_suspense or one.entered or one.id in there or now - one.happened_at > _FRESH]
    looked_for = [posting.id for one in perhaps_there for posting in one.postings]
    ids = [posting.id for one in ready for posting in one.postings]
    outcomes = await execute(runtime, connections, ids, look_first=looked_for, made_before=judged.made_before)
    endings |= {one: ending_of(one, outcomes) for one in ready}
    posted = [one for one, ending in endings.items() if isinstance(ending, Posted)]
    receipts = await _read_receipts(runtime, connections, calls, posted)

    async def work(connection: AsyncConnection) -> None:
        await book_posted(connection, runtime, [one.id for one in posted])
        refused = {one: ending for one, ending in endings.items() if isinstance(ending, RefusedForGood)}
        await put_in_suspense(connection, runtime, [_refused(one, ending.cause) for one, ending in refused.items()])
        unclear = {one: ending for one, ending in endings.items() if isinstance(ending, Unclear)}
        await hand_over(connection, runtime, [HandedOver(one, ending.cause) for one, ending in unclear.items()])
        await _write_receipts(connection, runtime, calls, receipts)
        results: dict[PendingCollection, CallResult] = {one: Done() for one in [*refused, *unclear]}
        results |= {
            one: _again(runtime, calls[one.id], ending) for one, ending in endings.items() if isinstance(ending, TryLater)
        }
        await _record(connection, runtime, calls, results)

    await in_transaction(runtime.engine, work)


async def _settle_overpayments(
    runtime: Runtime,
    connections: Connections,
    calls: Calls,
    pending: Sequence[PendingCollection],
    verdicts: Mapping[PendingCollection, Verdict | VaultError],
) -> tuple[list[PendingCollection], dict[PendingCollection, Ending]]:
    """Those of `pending` to post as they stand now, and how the others end: held, or not decided yet."""
    failed = {one: (one.partner_id, verdict) for one, verdict in verdicts.items() if isinstance(verdict, VaultError)}
    again = await again_after(runtime, connections, failed)
    later: dict[PendingCollection, Ending] = {
        one: TryLater(f"before the call: {result.cause}", counted=result.counted) for one, result in again.items()
    }
    changed = {
        one: verdict for one, verdict in verdicts.items() if not isinstance(verdict, VaultError) and _changes(one, verdict)
    }
    rest = [one for one in pending if one not in later and one not in changed]
    if not changed:
        return rest, later

    async def work(connection: AsyncConnection) -> list[PendingCollection]:
        held = await write_overpayments(connection, runtime, changed)
        suspended = await put_in_suspense(
            connection, runtime, [_for_suspense(one, verdict.reason, {"account": one.account_words}) for one, verdict in held]
        )
        await _record(connection, runtime, calls, {one: Done() for one, _ in held if one.id in suspended})
        fresh = await load_pending(connection, runtime, [one.id for one in changed if one.id not in suspended])
        return [one for one in fresh.values() if one.state == "posting"]

    return [*rest, *await in_transaction(runtime.engine, work)], later


def _changes(one: PendingCollection, verdict: Verdict) -> bool:
    """Whether it is to be posted otherwise than intended so far. One that was shared before may fit now."""
    return not isinstance(verdict, Fits) or len(one.postings) > 1


def _again(runtime: Runtime, call: Call, outcome: TryLater) -> Again:
    """Never sooner than the schedule: short waits for a busy account would use up the tries in seconds."""
    if outcome.wait is None:
        return Again(outcome.cause, counted=outcome.counted)
    wait = max(outcome.wait, next_wait(call.tries, runtime.pace, runtime.chance))
    return Again(outcome.cause, wait, counted=outcome.counted)


async def _text(runtime: Runtime, connections: Connections, calls: Calls, posted: Sequence[PendingCollection]) -> None:
    """For payments that an earlier try posted without getting as far as their receipt."""
    if not posted:
        return
    receipts = await _read_receipts(runtime, connections, calls, posted)

    async def work(connection: AsyncConnection) -> None:
        await _write_receipts(connection, runtime, calls, receipts)

    await in_transaction(runtime.engine, work)


async def _read_receipts(
    runtime: Runtime, connections: Connections, calls: Calls, posted: Sequence[PendingCollection]
) -> dict[PendingCollection, Receipt | Again]:
    """The receipts, and which must be tried again. In its last try one whose balances cannot be read is told without them."""

    async def read(one: PendingCollection, cause: str | None = None) -> Receipt | VaultError:
        try:
            client = await connections.mifos(one.partner_id)
            return await (read_receipt(client, one) if cause is None else read_plain_receipt(client, one, cause))
        except VaultError as error:
            return error

    seen = dict(zip(posted, await asyncio.gather(*(read(one) for one in posted)), strict=True))
    failed = {one: (one.partner_id, error) for one, error in seen.items() if isinstance(error, VaultError)}
    again = await again_after(runtime, connections, failed)
    last = [(one, result.cause) for one, result in again.items() if _is_over(calls[one.id], result)]
    seen |= dict(zip((one for one, _ in last), await asyncio.gather(*(read(*each) for each in last)), strict=True))
    receipts = {one: receipt for one, receipt in seen.items() if isinstance(receipt, Receipt)}
    return {one: replace(result, cause=f"posted; no receipt yet: {result.cause}") for one, result in again.items()} | receipts


async def _write_receipts(
    connection: AsyncConnection, runtime: Runtime, calls: Calls, receipts: Mapping[PendingCollection, Receipt | Again]
) -> None:
    partners = await load_partners(connection, sorted({one.partner_id for one in receipts}))
    read = {one: receipt for one, receipt in receipts.items() if isinstance(receipt, Receipt)}
    await write_receipts(connection, runtime, list(read.values()), {one.id: partners[one.partner_id] for one in read})
    await note_seen(connection, _seen(read), at=runtime.clock.now())
    results: dict[PendingCollection, CallResult] = {one: Done() for one in read}
    again = {one: result for one, result in receipts.items() if isinstance(result, Again)}
    untold = [_untold(one, calls[one.id], result) for one, result in again.items() if _is_over(calls[one.id], result)]
    await open_cases(connection, runtime.clock, runtime.new_id, untold)
    await _record(connection, runtime, calls, {**results, **again})


def _is_over(call: Call, again: Again) -> bool:
    """Whether the call was made for the last time."""
    return again.counted and call.last_try


def _untold(one: PendingCollection, call: Call, result: Again) -> NewCase:
    """The case of a payment that is posted, and whose client could not be told. Taking it up again closes it (resuming.py)."""
    do = "nothing is wrong with the money; mend what kept Mifos X from being read, then `vault collections resume`"
    evidence = {"collection": str(one.id), "cause": result.cause, "tries": call.tries, "do": do}
    return NewCase("call_given_up", f"{COLLECTION_CALL} {one.id}", one.partner_id, evidence=evidence)


def _seen(receipts: Mapping[PendingCollection, Receipt]) -> list[SeenAccount]:
    """The states that loans are in after their payments, for the mirror."""
    told = [(one.partner_id, account.loan_seen) for one, receipt in receipts.items() for account in receipt.accounts]
    return [SeenAccount(partner_id, "loan", *seen) for partner_id, seen in told if seen is not None]


async def _end(runtime: Runtime, calls: Calls, pending: Mapping[UUID, PendingCollection]) -> None:
    """Ends the calls about payments that are with a person."""
    with_a_person: dict[Call, CallResult] = {
        call: Done()
        for collection_id, call in calls.items()
        if collection_id not in pending or pending[collection_id].state not in ("matching", "posting", "posted")
    }

    async def work(connection: AsyncConnection) -> None:
        await record_results(connection, runtime, with_a_person)

    if with_a_person:
        await in_transaction(runtime.engine, work)


async def _record(
    connection: AsyncConnection, runtime: Runtime, calls: Calls, results: Mapping[PendingCollection, CallResult]
) -> None:
    """Records how the calls went; after a last try that did not end the matter, a person takes over."""
    used_up = [
        HandedOver(one, result.cause)
        for one, result in results.items()
        if isinstance(result, Again) and _is_over(calls[one.id], result)
    ]
    await hand_over(connection, runtime, used_up)
    await record_results(connection, runtime, {calls[one.id]: result for one, result in results.items()})
