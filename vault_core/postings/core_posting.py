"""Posting to Mifos X exactly once: the call is counted before it is made, and read back before it is made again.

Idempotency-Key, external id and receipt are three locks of one door; which of them a server has is in its capabilities. A key is
kept after a time-out and replaced after an answer that the server stores (reference/fineract.md section 6). A server that
has none of the three is protected by the lease alone: no call is begun that could outlive it.

A direct answer names the new transaction of the very call, whose body never changes under its key, and the amount is the one that
the server itself stated: it needs no comparison. Whatever is learned otherwise (a read-back, a posting by hand) is
compared to the cent, and the reconciliation of the day compares all of them with what Mifos X then has.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from vault_core.errors import TransientError, Unreachable, VaultError
from vault_core.partners.connections import Connections
from vault_core.postings.mifos_outages import is_away, note_away
from vault_core.postings.one_posting import ANOTHERS, BUSY_WAIT, Made, Poster, longest_lease, unsent
from vault_core.postings.posting_outcome import GivenUp, InMifos, PostingOutcome, TryLater
from vault_core.postings.posting_rows import CorePosting, Taken, take_postings, write_back
from vault_core.runtime import Runtime

_TOGETHER = 0.5  # seconds: answers that come so close are written back in one transaction
_OUTDATED = "another posting to the account was made since it was read"

_Answers = dict[UUID, PostingOutcome]


async def execute(
    runtime: Runtime,
    connections: Connections,
    posting_ids: Sequence[UUID],
    *,
    look_first: Collection[UUID] = (),
    made_before: Mapping[UUID, int] | None = None,
) -> _Answers:
    """As `execute_each`, when all of them have answered."""
    answers: _Answers = {}
    each = execute_each(runtime, connections, posting_ids, look_first=look_first, made_before=made_before)
    async with aclosing(each) as groups:
        async for some in groups:
            answers.update(some)
    return answers


async def execute_each(
    runtime: Runtime,
    connections: Connections,
    posting_ids: Sequence[UUID],
    *,
    look_first: Collection[UUID] = (),
    made_before: Mapping[UUID, int] | None = None,
) -> AsyncGenerator[_Answers, None]:
    """Makes the intended postings, a few at once a partner, never two for one account; answers once for every id that exists.

    Answers come in groups, each when it is written back: those that are there wait for nobody who is slow. `look_first`: those
    whose money moved long ago, so that people may have entered it by hand; they are read back before the first call too.
    `made_before`: those that rest on a reading of their account, with what posting_rows.count_made said before it; where another
    posting to it was made since, none is begun, nor any other of the same payment, until the caller has read again. Safe to
    repeat and to run from several processes; a posting that is over answers as it ended. An error that nobody foresaw is raised
    after what became of the others is written. No call goes on unattended when the caller stops listening.
    """
    taken = await take_postings(runtime, posting_ids, longest_lease(runtime.pace), made_before)
    if known := _known(taken):
        yield known
    by_partner: dict[UUID, list[CorePosting]] = {}
    for posting in taken.mine:
        by_partner.setdefault(posting.partner_id, []).append(posting)
    look = frozenset(look_first)
    told: asyncio.Queue[_Answers | None] = asyncio.Queue()
    parts = [_of_partner(runtime, connections, mine, taken.until, look, told.put_nowait) for mine in by_partner.values()]
    work = asyncio.gather(*parts, return_exceptions=True)
    work.add_done_callback(lambda _over: told.put_nowait(None))
    try:
        while (some := await told.get()) is not None:
            yield some
    except asyncio.CancelledError:
        work.cancel()
        raise
    finally:
        await asyncio.wait({work})
    for error in work.result():
        if error is not None:
            raise error


def _known(taken: Taken) -> _Answers:
    answers: _Answers = {
        posting_id: TryLater("another posting to the account is under way", BUSY_WAIT) for posting_id in taken.busy
    }
    answers |= {posting_id: TryLater(_OUTDATED, BUSY_WAIT, counted=False) for posting_id in taken.outdated}
    for posting in taken.over:
        if posting.state == "posted" and posting.mifos_transaction_id is not None:
            answers[posting.id] = InMifos(posting.mifos_transaction_id)
        else:
            answers[posting.id] = GivenUp(posting.last_answer or "refused", unposted=True)
    return answers


async def _of_partner(
    runtime: Runtime,
    connections: Connections,
    postings: Sequence[CorePosting],
    until: datetime,
    look_first: frozenset[UUID],
    tell: Callable[[_Answers], None],
) -> None:
    """The postings of one partner, all begun as their turns come; `tell` is called with what has been written back."""
    partner_id = postings[0].partner_id
    turns = connections.mifos_writes(partner_id)
    try:
        partner = await connections.partner(partner_id)
        client = await connections.mifos(partner_id)
        business_date = await connections.business_date(partner_id)
    except VaultError as error:
        away = isinstance(error, Unreachable)
        if away:
            await note_away(runtime, partner_id, str(error))
        elif isinstance(error, TransientError):
            away = await is_away(runtime, connections, partner_id)
        cause = f"before the call: {error}"
        tell(await _written(runtime, [unsent(posting, cause, counted=not away) for posting in postings], until))
        return
    poster = Poster(runtime, partner, client, business_date, until, look_first)

    async def one(posting: CorePosting) -> Made:
        async with turns:
            try:
                return await poster.make(posting)
            except VaultError as error:
                return unsent(posting, f"{type(error).__name__}: {error}")

    async def note(ended: Iterable[asyncio.Task[Made]]) -> None:
        made = [call.result() for call in ended if call.exception() is None]
        if any(written.unsent for written, _ in made) and await is_away(runtime, connections, partner_id):
            made = [(written, _uncounted(outcome) if written.unsent else outcome) for written, outcome in made]
        if made:
            tell(await _written(runtime, made, until))

    calls = [asyncio.create_task(one(posting)) for posting in postings]
    await _note_as_they_end(calls, note)
    for call in calls:
        call.result()


async def _note_as_they_end(
    calls: Iterable[asyncio.Task[Made]], note: Callable[[Iterable[asyncio.Task[Made]]], Awaitable[None]]
) -> None:
    """Has `note` write what has ended, now and then and together, until all have; none goes on unattended when that fails."""
    open_calls = set(calls)
    try:
        while open_calls:
            ended, open_calls = await asyncio.wait(open_calls, timeout=_TOGETHER)
            await note(ended)
    except asyncio.CancelledError:
        for call in open_calls:
            call.cancel()
        raise
    finally:
        await asyncio.gather(*open_calls, return_exceptions=True)


async def _written(runtime: Runtime, made: Sequence[Made], until: datetime) -> _Answers:
    kept = await write_back(runtime, [item for item, _ in made], until)
    return {item.posting_id: outcome if item.posting_id in kept else TryLater(ANOTHERS, BUSY_WAIT) for item, outcome in made}


def _uncounted(outcome: PostingOutcome) -> PostingOutcome:
    return replace(outcome, counted=False) if isinstance(outcome, TryLater) else outcome
