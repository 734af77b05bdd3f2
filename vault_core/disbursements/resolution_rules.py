"""What a person may state about an instruction after looking it up outside, and whether it stands. Decisions on values alone."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from vault_core.clock import NAIROBI
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.standing import InstructionFacts, Standing
from vault_core.disbursements.states import AttemptState, State
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import Money

_RECEIPT = re.compile(r"[A-Z0-9]{8,20}")
_LEAST_EVIDENCE = 10  # characters: "ok" is no evidence
_SLACK = timedelta(minutes=5)  # between M-Pesa's clock and ours


@dataclass(frozen=True, slots=True)
class SeenPaid:
    """The M-Pesa portal, or a statement, shows the payment. `amount` and `at` None: the instruction's amount, its time."""

    receipt: str
    amount: Money | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SeenUnpaid:
    """The M-Pesa portal shows no such payment, or shows that it failed."""


Seen = SeenPaid | SeenUnpaid


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person states, complete: about which instruction, and for a payment its receipt, amount and time."""

    instruction: InstructionFacts
    paid: tuple[str, Money, datetime] | None  # receipt, amount, time; None: not paid
    overturns: str | None = None  # the verdict that is booked and would not stand any more

    @property
    def amount(self) -> Money:
        """What it is about, to be compared with the limit of one person."""
        return self.instruction.amount if self.paid is None else self.paid[1]


def needs_second_person(statement: Statement, alone_up_to: Money) -> bool:
    """Whether one person's word is not enough: above the limit, and always against what is booked."""
    return statement.overturns is not None or statement.amount > alone_up_to


def checked_evidence(evidence: str) -> str:
    """The evidence without blanks around it. Raises InvalidInput for too little of it."""
    evidence = " ".join(evidence.split())
    if len(evidence) < _LEAST_EVIDENCE:
        raise InvalidInput(
            "evidence is needed in words: where it was looked up, by what, and what was seen there "
            "(say 'M-Pesa portal, transactions to the client's number on 24 Nov: none')"
        )
    return evidence


def stated(standing: Standing, seen: Seen, now: datetime, longest_call: timedelta, *, number: int | None = None) -> Statement:
    """The statement that `seen` makes about the disbursement. `number`: which instruction, where it is not plain.

    Raises InvalidInput for a receipt or a time that cannot be, and Conflict, saying what to do instead, where the books already
    say the same, where the instruction may still be under way, and where calling it unpaid is too early.
    """
    instruction = _meant(standing, number)
    if instruction.state is AttemptState.PAID:
        return _against_paid(standing, instruction, seen)
    over_at = instruction.send_by + longest_call
    # A late word on an earlier sending can take it out of the written ones while its process still has it to send again.
    to_be_ended = isinstance(seen, SeenUnpaid) and instruction.is_open
    if (instruction.state is AttemptState.WRITTEN or to_be_ended) and now < over_at:
        raise Conflict(
            f"{standing.loan}: instruction {instruction.number} may be on its way this moment; by {_clock(over_at)} that is over"
        )
    if isinstance(seen, SeenPaid):
        return _paid(standing, instruction, seen, now)
    _may_be_called_unpaid(standing, instruction)
    return Statement(instruction, None)


def _against_paid(standing: Standing, instruction: InstructionFacts, seen: Seen) -> Statement:
    booked = f"paid, receipt {instruction.receipt}"
    if isinstance(seen, SeenPaid) and standing.paid_amount is not None and _same(instruction, seen):
        return _made_good(standing, instruction, seen, standing.paid_amount)
    if isinstance(seen, SeenPaid):
        other = not _same(instruction, seen)
        more = "; if that is wrong, two people first state that it was --not-paid" if other else ""
        raise Conflict(f"{standing.loan}: instruction {instruction.number} is booked as {booked}{more}")
    return Statement(instruction, None, overturns=booked)


def _same(instruction: InstructionFacts, seen: SeenPaid) -> bool:
    return seen.receipt.strip().upper() == instruction.receipt


def _made_good(standing: Standing, instruction: InstructionFacts, seen: SeenPaid, paid: Money) -> Statement:
    """That the client has the instructed amount by now, though another one was paid."""
    receipt = seen.receipt.strip().upper()
    if seen.amount != instruction.amount:
        raise Conflict(
            f"{standing.loan}: receipt {receipt} paid {paid} instead of {instruction.amount}. Have the difference made good over "
            f"the short code, then state it with --paid {receipt} --amount {instruction.amount.as_decimal()}"
        )
    return Statement(
        instruction, (receipt, instruction.amount, instruction.written_at), overturns=f"paid {paid}, receipt {receipt}"
    )


def _meant(standing: Standing, number: int | None) -> InstructionFacts:
    if not standing.instructions:
        raise Conflict(f"{standing.loan} is {standing.state}: nothing was ever instructed for it, so there is nothing to resolve")
    if number is not None:
        chosen = next((one for one in standing.instructions if one.number == number), None)
        if chosen is None:
            raise InvalidInput(f"{standing.loan} has the instructions 1 to {len(standing.instructions)}, no {number}")
        return chosen
    return standing.open_instruction or standing.said_paid_late or standing.paid_instruction or standing.instructions[-1]


def _paid(standing: Standing, instruction: InstructionFacts, seen: SeenPaid, now: datetime) -> Statement:
    receipt = seen.receipt.strip().upper()
    if not _RECEIPT.fullmatch(receipt):
        raise InvalidInput(f"{seen.receipt!r} is no M-Pesa receipt: 8 to 20 letters and digits")
    other = standing.paid_instruction or standing.open_instruction
    if instruction.state is AttemptState.FAILED and other is not None:
        raise Conflict(
            f"{standing.loan}: instruction {other.number} is {other.state}, so that {instruction.number} would be a second "
            "payment for the same loan. Settle that one first; if both were paid, have the client return one of them"
        )
    if instruction.state is AttemptState.FAILED and instruction.receipt not in {None, receipt}:
        raise InvalidInput(
            f"{standing.loan}: M-Pesa named receipt {instruction.receipt} for instruction {instruction.number}, not {receipt}"
        )
    at = seen.at or instruction.written_at
    if not instruction.written_at - _SLACK <= at <= now + _SLACK:
        raise InvalidInput(
            f"paid at {_clock(at)} cannot be: the instruction was written at {_clock(instruction.written_at)}, and now is "
            f"{_clock(now)}"
        )
    overturns = f"failed with {instruction.result_code}" if instruction.state is AttemptState.FAILED else None
    return Statement(instruction, (receipt, seen.amount or instruction.amount, at), overturns)


def _may_be_called_unpaid(standing: Standing, instruction: InstructionFacts) -> None:
    if instruction.state is AttemptState.FAILED:
        if instruction.receipt is None:
            raise Conflict(f"{standing.loan}: instruction {instruction.number} is booked as not paid already")
        return
    # What a person holds is not sent before the statement is decided; what waits for anything else may be.
    is_kept = standing.held_for is HeldFor.BY_PERSON and instruction.state is AttemptState.REFUSED
    if standing.state is not State.NEEDS_REVIEW and not is_kept:
        asked = "" if instruction.query_at is None else f"; the next question goes at {_clock(instruction.query_at)}"
        raise Conflict(
            f"{standing.loan} is {standing.state}: M-Pesa is still asked about it{asked}. What the portal does not show yet "
            "may still be paid, so it can be called unpaid only when it is with a person (needs_review)"
        )
    if not instruction.may_have_moved_money:
        raise Conflict(
            f"{standing.loan}: M-Pesa never took instruction {instruction.number}: `vault disbursements retry` or `cancel`"
        )


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
