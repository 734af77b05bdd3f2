"""One posting made in Mifos X: straight on its first call, after a read-back on a further one, and what its answer means."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from vault_core.clients.mifos import CoreWrite, MifosClient, Posted
from vault_core.clients.mifos_errors import (
    NOT_SENT,
    is_closed_day,
    is_expected_day_only,
    is_not_yet,
    key_is_burnt,
    waits_for_checker,
)
from vault_core.clock import business_day, day_bounds
from vault_core.errors import VaultError
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.partners.partner import Partner
from vault_core.postings.posting_outcome import GivenUp, InMifos, PostingOutcome, TryLater
from vault_core.postings.posting_rows import CorePosting, Written, mark_calling
from vault_core.postings.read_back import Found, Unsure, read_back
from vault_core.runtime import Runtime
from vault_core.settings import Pace

_CALLS_A_KEY = 2  # then the key is replaced: a server that died in a call answers 425 under it for ever
BUSY_WAIT = timedelta(seconds=2)
_LEASE_MARGIN = timedelta(seconds=15)
_FRESH = timedelta(minutes=10)  # a call first made later is preceded by a read: people may have acted meanwhile
_LONGEST_CLOSURE = timedelta(days=5)  # Easter and Christmas with their weekends are four days
_UNTIL_ITS_DAY_BEGINS = timedelta(hours=2)  # between tries while a tenant's business date lags, so that they last for a day
_CLOSED = "the tenant takes no posting under the days so far"
# Newer servers look at that day, whatever day is named: no other day of ours helps there.
_EXPECTED_DAY_CLOSED = (
    "the loan's expected disbursement date is the closed day: allow transactions on such days in the global configuration of "
    "Mifos X, `vault disbursements resume`, and take it back once it is posted"
)
ANOTHERS = "another worker took the posting over"

Made = tuple[Written, PostingOutcome]


def posting_date(happened_on: date, business_date: date | None, not_before: date | None = None) -> date:
    """The day to post under: the day of the money, or the tenant's business date if that lags behind it.

    `not_before`: the tenant refused the days before it (holidays, days it does not work); the first that may do is taken.
    """
    day = happened_on if business_date is None else min(happened_on, business_date)
    return day if not_before is None else max(day, not_before)


def longest_lease(pace: Pace) -> timedelta:
    """How long a posting is claimed for: two calls of it fit in."""
    return max(timedelta(seconds=pace.outbox_lease), 2 * timedelta(seconds=pace.mifos_write_timeout)) + _LEASE_MARGIN


@dataclass(frozen=True, slots=True)
class Poster:
    """Makes claimed postings of one partner."""

    runtime: Runtime
    partner: Partner
    client: MifosClient
    business_date: date | None
    until: datetime  # the end of the lease
    look_first: frozenset[UUID]

    async def make(self, posting: CorePosting) -> Made:
        """One posting: straight on the first call, after a read-back on a further one.

        A tranche is read back before its first call too: the server counts none, and would take one by hand and ours. So is
        what is called for long after its money moved.
        """
        key = posting.idempotency_key
        if posting.tries or self._must_look(posting):
            seen = await read_back(self.client, self.partner.mifos_capabilities, posting)
            if isinstance(seen, Found):
                found = seen.transaction
                return Written(posting.id, "posted", "found by reading back", found.id, found.on), InMifos(found.id)
            if isinstance(seen, Unsure):
                return _in_doubt(posting, seen.cause)
            wait = self._settling(posting)
            if wait is not None:
                return _open(posting, TryLater(f"not posted yet; {posting.last_answer}", wait))
            if posting.last_answer is not None and waits_for_checker(posting.last_answer):
                # A call under another key would be a second command for the checker to approve.
                return _open(posting, TryLater(posting.last_answer))
            if posting.key_tries >= _CALLS_A_KEY:
                key = self.runtime.new_id().hex
        day = posting_date(posting.transaction_date, self.business_date, posting.not_before)
        if posting.not_before is not None and day > self._today():
            return _open(posting, TryLater(posting.last_answer or _CLOSED, self._until_tomorrow()))
        if self._would_outlive_the_lease():
            # The server is slow: what waits in vain was never called for, and must not come to a person for that.
            late = TryLater("its turn came too late after its claim", BUSY_WAIT, counted=False)
            return Written(posting.id, "unknown", posting.last_answer or late.cause, no_try=not posting.tries), late
        if posting.tries and not await mark_calling(self.runtime, posting.id, key, self.until):
            return _open(posting, TryLater(ANOTHERS, BUSY_WAIT))
        return await self._judge(posting, day, await self._call(posting, day, key))

    def _must_look(self, posting: CorePosting) -> bool:
        old = self.runtime.clock.now() - posting.created_at > _FRESH
        return old or posting.tranche is not None or posting.id in self.look_first

    def _today(self) -> date:
        """The tenant's day."""
        return self.business_date or business_day(self.runtime.clock.now())

    def _until_tomorrow(self) -> timedelta:
        now = self.runtime.clock.now()
        _, end = day_bounds(business_day(now))
        return end - now + timedelta(minutes=1 + 9 * self.runtime.chance.random())  # not all at midnight

    def _would_outlive_the_lease(self) -> bool:
        return self.runtime.clock.now() + timedelta(seconds=self.runtime.pace.mifos_write_timeout) > self.until

    def _settling(self, posting: CorePosting) -> timedelta | None:
        # The server goes on with a command whose caller has hung up. A key, an external id or the state of an approved loan (not
        # of one in tranches) stop a second posting while it does; a server without them needs time before its silence means
        # anything.
        features = self.partner.mifos_capabilities
        external_ids = features.savings_external_ids if posting.kind == "deposit" else features.loan_external_ids
        guarded = posting.kind == "disburse" and posting.tranche is None
        if guarded or external_ids or posting.called_at is None:
            return None
        write_timeout = timedelta(seconds=self.runtime.pace.mifos_write_timeout)
        settled_at = posting.called_at + 2 * write_timeout
        if posting.tries == 1:  # a first call is noted when it is claimed, and begun as late as the lease allows
            settled_at += longest_lease(self.runtime.pace) - write_timeout
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
            external_id=posting.external_id if external_ids and not posting.top_up else None,
            idempotency_key=key if features.idempotency else None,
            note=f"M-Pesa {posting.receipt} by Payment Vault",
        )
        send = {"disburse": self.client.disburse, "repayment": self.client.repay, "deposit": self.client.deposit}[posting.kind]
        return await send(posting.account_id, write)

    async def _judge(self, posting: CorePosting, day: date, outcome: Outcome[Posted]) -> Made:
        match outcome:
            case Accepted(value=posted):
                transaction = posted.transaction_id
                return Written(posting.id, "posted", "posted", transaction, day), InMifos(transaction)
            case Refused(refusal=Refusal.TERMINAL):
                cause = f"{outcome.code}: {outcome.reason}"
                if posting.tries:  # an earlier call may still be under way in the server
                    return _open(posting, GivenUp(cause))
                return Written(posting.id, "refused", cause), GivenUp(cause, unposted=True)
            case Refused(code=code) if code == NOT_SENT:
                return unsent(posting, outcome.reason, called=True)
            case Refused() if is_expected_day_only(outcome):
                return await self._under_its_expected_day(posting, day, outcome)
            case Refused():
                return self._refused_for_now(posting, day, outcome)
            case Unknown():
                return _open(posting, TryLater(outcome.cause))

    async def _under_its_expected_day(self, posting: CorePosting, day: date, refused: Refused) -> Made:
        """The product takes the disbursal under the loan's expected day only: under that it is posted, once the day has come."""
        cause = f"{refused.code}: {refused.reason}"
        new_key = self.runtime.new_id().hex
        try:
            expected = (await self.client.loan(posting.account_id)).expected_on
        except VaultError as error:
            return _open(posting, TryLater(f"{cause}; and then {error}"), new_key)
        if expected is None or expected == day:
            return _open(posting, GivenUp(cause), new_key)
        later = Written(posting.id, "unknown", cause, day=expected, new_key=new_key)
        wait = self._until_tomorrow() if expected > self._today() else None
        return later, TryLater(f"{cause}; it is posted under the loan's expected day, {expected}", wait)

    def _refused_for_now(self, posting: CorePosting, day: date, refused: Refused) -> Made:
        new_key = self.runtime.new_id().hex if key_is_burnt(refused) else None
        cause = f"{refused.code}: {refused.reason}"
        if is_closed_day(refused):
            following = day + timedelta(days=1)
            if posting.kind == "disburse" and self.partner.mifos_capabilities.looks_at_expected_day:
                return _open(posting, GivenUp(f"{cause}; {_EXPECTED_DAY_CLOSED}"), new_key)
            if following - posting.transaction_date > _LONGEST_CLOSURE:
                # It may be a newer server that does not show its version.
                return _open(posting, GivenUp(f"{cause}; if {_EXPECTED_DAY_CLOSED}"), new_key)
            wait = None if following <= self._today() else self._until_tomorrow()
            later = Written(posting.id, "unknown", cause, new_key=new_key, not_before=following)
            return later, TryLater(f"{cause}; it is posted under the first day that Mifos X takes", wait)
        wait = _UNTIL_ITS_DAY_BEGINS if is_not_yet(refused) else None
        return _open(posting, TryLater(cause, wait), new_key)


def _open(posting: CorePosting, outcome: TryLater | GivenUp, new_key: str | None = None) -> Made:
    return Written(posting.id, "unknown", outcome.cause, new_key=new_key), outcome


def _in_doubt(posting: CorePosting, cause: str) -> Made:
    if posting.tries or posting.kind == "disburse":
        return _open(posting, GivenUp(cause))
    # No call was ever made for it: what stands there in its place somebody else entered.
    return Written(posting.id, "refused", cause), GivenUp(cause, unposted=True)


def unsent(posting: CorePosting, cause: str, *, called: bool = False, counted: bool = True) -> Made:
    """Nothing was written to Mifos X this time. That a checker has an earlier command is not forgotten over that.

    `called`: a further call was counted and did not leave. (A first one is counted when it is claimed.)
    """
    kept = posting.last_answer is not None and waits_for_checker(posting.last_answer)
    answer = posting.last_answer or cause if kept else cause
    return Written(posting.id, "unknown", answer, unsent=True, no_try=called or not posting.tries), TryLater(
        cause, counted=counted
    )
