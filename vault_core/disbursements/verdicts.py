"""What a piece of evidence does to an instruction: the first terminal verdict wins, a contradicting one is for a person."""

from dataclasses import dataclass

from vault_core.disbursements.evidence import Evidence, NeverArrived, NoLongerKnown, SaysFailed, SaysNothing, SaysPaid
from vault_core.disbursements.result_classes import ResultClass
from vault_core.disbursements.states import AttemptState
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction as it stands when the evidence comes. `acknowledged`: M-Pesa once answered that it took it."""

    state: AttemptState
    amount: Money
    receipt: str | None
    result_code: str | None
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Pay:
    """Book the payout as paid. `differs` if M-Pesa's amount is not the instruction's: then a person must see it, too."""

    paid: SaysPaid
    differs: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """Book the instruction as dead."""

    failed: SaysFailed


@dataclass(frozen=True, slots=True)
class SendSameAgain:
    """It never arrived and M-Pesa never said it took it: the same instruction goes again."""

    cause: str


@dataclass(frozen=True, slots=True)
class Await:
    """Still open: wait for the result and ask about it."""

    nothing: SaysNothing


@dataclass(frozen=True, slots=True)
class GiveToPerson:
    """The evidence cannot settle it."""

    cause: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """Says what is known already."""


@dataclass(frozen=True, slots=True)
class Contradict:
    """Says the opposite of the verdict that stands, which is kept. `receipt`: of a payment nothing is booked of."""

    what: str
    receipt: str | None = None


Verdict = Pay | Fail | SendSameAgain | Await | GiveToPerson | Repeat | Contradict


def judge(instruction: Instruction, evidence: Evidence) -> Verdict:
    """The verdict on `instruction` after `evidence`."""
    if instruction.state is AttemptState.PAID:
        return _after_paid(instruction, evidence)
    if instruction.state is AttemptState.FAILED:
        return _after_failed(instruction, evidence)
    match evidence:
        case SaysPaid():
            return Pay(evidence, differs=evidence.amount != instruction.amount)
        case SaysFailed():
            return Fail(evidence)
        case NeverArrived():
            return _never_arrived(instruction, evidence)
        case NoLongerKnown():
            return GiveToPerson("M-Pesa finds nothing under the instruction's id, which is too old for that to prove anything")
        case SaysNothing():
            return Await(evidence)


def _never_arrived(instruction: Instruction, evidence: NeverArrived) -> Verdict:
    # A new id needs a dead old one. M-Pesa took this one and lost it: dead. One it never took can go again under its own id,
    # which is safe even if the evidence should be wrong.
    if instruction.acknowledged:
        return Fail(SaysFailed(evidence.code, evidence.text, ResultClass.RETRY_LATER))
    return SendSameAgain(f"M-Pesa knows nothing of it ({evidence.code})")


def _after_paid(instruction: Instruction, evidence: Evidence) -> Verdict:
    match evidence:
        case SaysPaid(receipt=receipt, amount=amount) if receipt != instruction.receipt:
            return Contradict(f"paid again: receipt {receipt}, {amount}", receipt)
        case SaysFailed(code=code):
            return Contradict(f"failed with code {code} after it was paid")
        case _:
            return Repeat()


def _after_failed(instruction: Instruction, evidence: Evidence) -> Verdict:
    match evidence:
        case SaysPaid(receipt=receipt, amount=amount):
            return Contradict(f"paid after it failed with code {instruction.result_code}: receipt {receipt}, {amount}", receipt)
        case _:
            return Repeat()
