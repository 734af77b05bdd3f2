"""Posting to Mifos X exactly once: the call is counted before it is made, and read back before it is made again.

Idempotency-Key, external id and receipt are three locks of one door; which of them a server has is in its capabilities. A key is
kept after a time-out and replaced after an answer that the server stores (reference/fineract.md section 6).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.clients.mifos_errors import key_is_burnt
from vault_core.errors import VaultError
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.postings.posting_rows import (
    CorePosting,
    Taken,
    Written,
    account_number_binding,
    mark_calling,
    take_postings,
    write_back,
)
from vault_core.postings.read_back import Found, Unsure, read_back
from vault_core.runtime import Runtime

__all__ = ["GivenUp", "InMifos", "PostingOutcome", "TryLater", "account_number_binding", "execute", "posting_date"]

CALLS_AT_ONCE = 5  # a partner; its database pool is 10 wide (reference/fineract.md section 8)
_CALLS_A_KEY = 2  # then the key is replaced: a server that died in a call answers 425 under it for ever
_BUSY_WAIT = timedelta(seconds=2)
_LEASE_MARGIN = timedelta(seconds=45)


@dataclass(frozen=True, slots=True)
class InMifos:
    """It is posted, under this transaction."""

    transaction_id: int


@dataclass(frozen=True, slots=True)
class TryLater:
    """Not known to be posted. `wait` None: by the caller's schedule."""

    cause: str
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Trying again is of no use: a person must look. `unposted`: it is certain that nothing was posted."""

    cause: str
    unposted: bool = False


PostingOutcome = InMifos | TryLater | GivenUp


def posting_date(happened_on: date, business_date: date | None) -> date:
    """The day to post under: the day of the money, or the tenant's business date if that lags behind it."""
    return happened_on if business_date is None else min(happened_on, business_date)


async def execute(runtime: Runtime, connections: Connections, posting_ids: Sequence[UUID]) -> dict[UUID, PostingOutcome]:
    """Makes the intended postings, a few at once a partner, never two for one account; answers for every id that exists.

    Safe to repeat and to run from several processes; a posting that is over answers as it ended.
    """
    lease = max(timedelta(seconds=runtime.pace.outbox_lease), timedelta(seconds=runtime.pace.mifos_write_timeout) + _LEASE_MARGIN)
    taken = await take_postings(runtime, posting_ids, lease)
    answers = _known(taken)
    by_partner: dict[UUID, list[CorePosting]] = {}
    for posting in taken.mine:
        by_partner.setdefault(posting.partner_id, []).append(posting)
    groups = [_of_partner(runtime, connections, partner_id, mine) for partner_id, mine in by_partner.items()]
    for written in await asyncio.gather(*groups):
        await write_back(runtime, [item for item, _ in written])
        answers.update({item.posting_id: outcome for item, outcome in written})
    return answers


def _known(taken: Taken) -> dict[UUID, PostingOutcome]:
    answers: dict[UUID, PostingOutcome] = {
        posting_id: TryLater("another posting to the account is under way", _BUSY_WAIT) for posting_id in taken.busy
    }
    for posting in taken.over:
        if posting.state == "posted" and posting.mifos_transaction_id is not None:
            answers[posting.id] = InMifos(posting.mifos_transaction_id)
        else:
            answers[posting.id] = GivenUp(posting.last_answer or "refused", unposted=True)
    return answers


async def _of_partner(
    runtime: Runtime, connections: Connections, partner_id: UUID, postings: Sequence[CorePosting]
) -> list[tuple[Written, PostingOutcome]]:
    try:
        partner = await connections.partner(partner_id)
        client = await connections.mifos(partner_id)
        business_date = await client.business_date()
    except VaultError as error:
        return [_open(posting, TryLater(f"before the call: {error}")) for posting in postings]
    poster = _Poster(runtime, partner, client, business_date)
    turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(posting: CorePosting) -> tuple[Written, PostingOutcome]:
        async with turns:
            try:
                return await poster.make(posting)
            except VaultError as error:
                return _open(posting, TryLater(f"{type(error).__name__}: {error}"))

    return await asyncio.gather(*(one(posting) for posting in postings))


def _open(posting: CorePosting, outcome: TryLater | GivenUp, new_key: str | None = None) -> tuple[Written, PostingOutcome]:
    return Written(posting.id, "unknown", outcome.cause, new_key=new_key), outcome


@dataclass(frozen=True, slots=True)
class _Poster:
    runtime: Runtime
    partner: Partner
    client: MifosClient
    business_date: date | None

    async def make(self, posting: CorePosting) -> tuple[Written, PostingOutcome]:
        """One posting: straight on the first call, after a read-back on a further one."""
        key = posting.idempotency_key
        if posting.tries:
            seen = await read_back(self.client, self.partner.mifos_capabilities, posting)
            if isinstance(seen, Found):
                found = seen.transaction
                return Written(posting.id, "posted", "found by reading back", found.id, found.on), InMifos(found.id)
            if isinstance(seen, Unsure):
                return _open(posting, GivenUp(seen.cause))
            wait = self._settling(posting)
            if wait is not None:
                return _open(posting, TryLater(f"not posted yet; {posting.last_answer}", wait))
            if posting.key_tries >= _CALLS_A_KEY:
                key = self.runtime.new_id().hex
            await mark_calling(self.runtime, posting.id, key)
        day = posting_date(posting.transaction_date, self.business_date)
        return self._judge(posting, day, await self._call(posting, day, key))

    def _settling(self, posting: CorePosting) -> timedelta | None:
        # The server goes on with a command whose caller has hung up. A key, an external id or the state of an approved loan stop
        # a second posting while it does; a server without them needs time before its silence means anything.
        features = self.partner.mifos_capabilities
        external_ids = features.savings_external_ids if posting.kind == "deposit" else features.loan_external_ids
        if posting.kind == "disburse" or external_ids or posting.called_at is None:
            return None
        settled_at = posting.called_at + 2 * timedelta(seconds=self.runtime.pace.mifos_write_timeout)
        rest = settled_at - self.runtime.clock.now()
        return rest if rest > timedelta(0) else None

    async def _call(self, posting: CorePosting, day: date, key: str) -> Outcome[Posted]:
        features = self.partner.mifos_capabilities
        external_ids = features.savings_external_ids if posting.kind == "deposit" else features.loan_external_ids
        write = CoreWrite(
            amount=posting.amount,
            on=day,
            payment_type_id=self.partner.mifos_payment_type_id,
            receipt=posting.receipt,
            account_number=posting.account_number,
            external_id=posting.external_id if external_ids else None,
            idempotency_key=key if features.idempotency else None,
            note=f"M-Pesa {posting.receipt} by Payment Vault",
        )
        send = {"disburse": self.client.disburse, "repayment": self.client.repay, "deposit": self.client.deposit}[posting.kind]
        return await send(posting.account_id, write)

    def _judge(self, posting: CorePosting, day: date, outcome: Outcome[Posted]) -> tuple[Written, PostingOutcome]:
        match outcome:
            case Accepted(value=posted):
                transaction = posted.transaction_id
                return Written(posting.id, "posted", "posted", transaction, day), InMifos(transaction)
            case Refused(refusal=Refusal.TERMINAL):
                cause = f"{outcome.code}: {outcome.reason}"
                if posting.tries:  # an earlier call may still be under way in the server
                    return _open(posting, GivenUp(cause))
                return Written(posting.id, "refused", cause), GivenUp(cause, unposted=True)
            case Refused():
                new_key = self.runtime.new_id().hex if key_is_burnt(outcome) else None
                return _open(posting, TryLater(f"{outcome.code}: {outcome.reason}"), new_key)
            case Unknown():
                return _open(posting, TryLater(outcome.cause))
