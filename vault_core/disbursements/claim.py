"""Claiming ready disbursements to send: every decision, the hold of the charges and the written instruction, in one transaction.

Only after its commit is anything sent (write-ahead, DESIGN.md section 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.batches import note_work
from vault_core.disbursements.candidates import (
    Candidate,
    Selection,
    lock_ready,
    product_rules,
    sent_today,
    take_turns,
    unposted_top_ups,
    unresolved_payees,
)
from vault_core.disbursements.charging import ToHold, hold_charges
from vault_core.disbursements.eligibility import Held, HeldFor, LoanFacts, ProductRules, examine, within_daily_limit
from vault_core.disbursements.float_shortage import keep_what_is_covered
from vault_core.disbursements.holding import hold_back
from vault_core.disbursements.instructions import Claimed, write_instructions
from vault_core.disbursements.payout_quote import payout_quote
from vault_core.disbursements.sending_gate import enter_claim, why_shut
from vault_core.disbursements.states import AttemptState
from vault_core.ledger.holds import Short
from vault_core.money import ZERO, Money
from vault_core.notifications.wallet_texts import tell_wallet_short
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.system_fees import SystemFee, load_system_fees
from vault_core.runtime import Runtime
from vault_core.settings import Pace
from vault_core.wallets.alerts import raise_alert
from vault_core.wallets.charges import ChargeQuote, TariffBook


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim gave: instructions to send, and how many loans were held back instead."""

    claimed: tuple[Claimed, ...] = ()
    held: int = 0
    full: bool = False  # as much as may be under way is: more can be claimed when some of it has ended

    @property
    def is_empty(self) -> bool:
        """Whether nothing was left to claim."""
        return not self.claimed and not self.held and not self.full


_UNDER_WAY = text(
    "SELECT count(*) FROM disbursement_attempts WHERE partner_id = :partner_id AND state = 'written' AND send_by > :over"
)
_AWAIT = text("UPDATE disbursements SET state = 'unknown' WHERE id = ANY(:ids)")
_REVIEW = text(
    """
    UPDATE disbursements SET state = 'needs_review', batch_id = NULL, reason = 'an instruction that failed was later said to be '
           || 'paid: look it up in the M-Pesa portal before anything more is paid for this loan'
    WHERE id = ANY(:ids)
    """
)


def most_under_way(pace: Pace) -> int:
    """How many instructions of a partner may be written and not answered at once, over all processes.

    Only what is written is sent, so that M-Pesa never has more requests of a short code at a time.
    """
    return max(pace.b2c_in_flight, 1)


async def claim(runtime: Runtime, tariffs: TariffBook, partner_id: UUID, which: Selection, most: int) -> Claim:
    """Claims up to `most` ready disbursements of one partner, and no more than may be under way at once over all processes.

    Held back instead: all of them if all sending is halted or the partner is not active, those to a payee with an unresolved
    payout of any age (another of the same claim, too), top-ups of an older loan that another one, not posted yet, pays off, those
    above a daily limit, those that the expected float does not cover, and those whose charges the wallet does not cover, with one
    alert a shortage. A disbursement whose instruction was refused before goes again under the same id and hold. One of which an
    earlier, failed instruction was later said to be paid is not sent: it stays with the person who has the case.
    """

    async def work(connection: AsyncConnection) -> Claim:
        await enter_claim(connection)
        await take_turns(connection, partner_id)
        if which.batch_id is not None:
            await note_work(connection, runtime, which.batch_id)
        over = runtime.clock.now() - timedelta(seconds=runtime.pace.http_timeout)  # what was begun at `send_by` is given up then
        under_way = (await connection.execute(_UNDER_WAY, {"partner_id": partner_id, "over": over})).scalar_one()
        room = min(most, most_under_way(runtime.pace) - under_way)
        if room <= 0:
            return Claim(full=True)
        candidates = await lock_ready(connection, runtime, partner_id, which, room)
        if not candidates:
            return Claim()
        partner = await load_partner(connection, id=partner_id)
        return await _Decision(connection, runtime, tariffs, partner).decide(candidates)

    return await in_transaction(runtime.engine, work)


@dataclass(slots=True)
class _Decision:
    connection: AsyncConnection
    runtime: Runtime
    tariffs: TariffBook
    partner: Partner
    held: list[tuple[UUID, Held]] = field(default_factory=list)
    stopped: int = 0

    async def decide(self, candidates: Sequence[Candidate]) -> Claim:
        now = self.runtime.clock.now()
        candidates = await self._perhaps_paid_stopped(await self._awaiting_put_right(candidates))
        allowed, short = await keep_what_is_covered(
            self.connection, self.runtime, self.partner, await self._allowed(candidates, now)
        )
        self.held += short
        fresh = [candidate for candidate in allowed if candidate.open_instruction is None]
        again = [candidate for candidate in allowed if candidate.open_instruction is not None]
        holds = await self._covered(fresh, business_day(now))
        covered = [candidate for candidate in fresh if candidate.id in holds]
        claimed = await write_instructions(self.connection, self.runtime, self.partner.id, [*covered, *again], holds)
        await hold_back(self.connection, self.runtime, self.held)
        return Claim(claimed, len(self.held) + self.stopped)

    async def _awaiting_put_right(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        # Ready beside an instruction that may have been taken must never happen; if it does, evidence is awaited.
        wrong = [
            candidate.id
            for candidate in candidates
            if candidate.open_instruction is not None and candidate.open_instruction.state is not AttemptState.REFUSED
        ]
        if wrong:
            await self.connection.execute(_AWAIT, {"ids": wrong})
        return [candidate for candidate in candidates if candidate.id not in wrong]

    async def _perhaps_paid_stopped(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        paid = [candidate.id for candidate in candidates if candidate.late_receipt is not None]
        if paid:
            await self.connection.execute(_REVIEW, {"ids": paid})
            self.stopped = len(paid)
        return [candidate for candidate in candidates if candidate.late_receipt is None]

    async def _allowed(self, candidates: Sequence[Candidate], now: datetime) -> list[Candidate]:
        partner_id = self.partner.id
        if (shut := await why_shut(self.connection, self.partner)) is not None:
            self.held += [(candidate.id, shut) for candidate in candidates]
            return []
        unresolved = await unresolved_payees(self.connection, partner_id, candidates)
        topping_up = await unposted_top_ups(self.connection, partner_id, candidates)
        rules = await product_rules(self.connection, partner_id, [candidate.product_id for candidate in candidates])
        sent = await sent_today(self.connection, now, partner_id, rules)
        allowed = []
        for candidate in candidates:
            held = (
                _payee_is_free(candidate, unresolved)
                or _older_loan_is_free(candidate, topping_up)
                or _within_limits(candidate, rules, sent)
            )
            if held is not None:
                self.held.append((candidate.id, held))
                continue
            allowed.append(candidate)
            if candidate.phone_hash is not None:
                unresolved.setdefault(candidate.phone_hash, {})[candidate.id] = candidate.loan_account_no
            if candidate.older_loan_id is not None:
                topping_up.setdefault(candidate.older_loan_id, {})[candidate.id] = candidate.loan_account_no
            if candidate.product_id in sent and candidate.open_instruction is None:
                sent[candidate.product_id] += candidate.payout
        return allowed

    async def _covered(self, fresh: Sequence[Candidate], day: date) -> dict[UUID, UUID | None]:
        fees = (await load_system_fees(self.connection, [self.partner.id]))[self.partner.id]
        wanted = [ToHold(candidate.id, self._quote(candidate, fees, day), candidate.taken_back) for candidate in fresh]
        answers = await hold_charges(self.connection, self.runtime, self.partner, wanted)
        shorts = [(disbursement_id, answer) for disbursement_id, answer in answers.items() if isinstance(answer, Short)]
        for disbursement_id, short in shorts:
            reason = f"the wallet has {short.available} available and {short.needed} is needed for charges: top it up"
            self.held.append((disbursement_id, Held(HeldFor.WALLET_SHORT, reason, short.needed)))
        if shorts:
            lowest = shorts[0][1]
            if await raise_alert(self.connection, self.runtime, self.partner.id, "short", lowest.available):
                needed = sum((short.needed for _, short in shorts), ZERO)
                await tell_wallet_short(self.connection, self.runtime, self.partner, replace(lowest, needed=needed))
        return {disbursement_id: answer for disbursement_id, answer in answers.items() if not isinstance(answer, Short)}

    def _quote(self, candidate: Candidate, fees: Sequence[SystemFee], day: date) -> ChargeQuote:
        return payout_quote(
            self.tariffs,
            self.partner,
            fees,
            day,
            payout=candidate.payout,
            product_id=candidate.product_id,
            client_name=candidate.client_name,
            loan_account_no=candidate.loan_account_no,
        )


def _payee_is_free(candidate: Candidate, unresolved: Mapping[bytes, Mapping[UUID, str]]) -> Held | None:
    others = _others(candidate, unresolved.get(candidate.phone_hash or b"", {}))
    if not others:
        return None
    return Held(
        HeldFor.UNRESOLVED_PAYOUT,
        f"a payout to the same person is not resolved yet (loan {others}): it waits for that one's end",
    )


def _older_loan_is_free(candidate: Candidate, topping_up: Mapping[int, Mapping[UUID, str]]) -> Held | None:
    """What the older loan owes, and so what the client gets, is not to be told while another top-up of it is not posted."""
    others = _others(candidate, topping_up.get(candidate.older_loan_id or 0, {}))
    if not others:
        return None
    return Held(
        HeldFor.UNRESOLVED_PAYOUT,
        f"loan {others} tops up the same older loan and is not posted in Mifos X yet: it waits for that one's end",
    )


def _others(candidate: Candidate, under_way: Mapping[UUID, str]) -> str:
    return ", ".join(sorted({number for disbursement_id, number in under_way.items() if disbursement_id != candidate.id}))


def _within_limits(candidate: Candidate, rules: Mapping[int, ProductRules], sent: Mapping[int, Money]) -> Held | None:
    product = rules.get(candidate.product_id)
    facts = LoanFacts(candidate.principal, candidate.payout, "KES", group=False, phone=candidate.phone)
    decision = examine(facts, product)  # again: limits may have changed since the loan was found
    if isinstance(decision, Held):
        return decision
    if candidate.open_instruction is not None or product is None:
        return None  # its amount is counted already
    return within_daily_limit(product, sent.get(candidate.product_id, ZERO), candidate.payout)
