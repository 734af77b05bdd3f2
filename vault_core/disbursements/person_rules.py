"""What a person may do about a payout, and why not: decisions on values alone.

Two laws stand behind all of them. While an instruction may have moved money, nobody sends another one or calls the loan off; only
evidence ends that (`vault disbursements resolve`). And what a person was given, only a person sends on.
"""

from dataclasses import dataclass
from datetime import datetime

from vault_core.clock import NAIROBI, business_day
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.result_classes import ResultClass, meaning_of, refused_for_good
from vault_core.disbursements.standing import InstructionFacts, Standing
from vault_core.disbursements.states import AttemptState, State
from vault_core.errors import Conflict

_ON_ITS_WAY = frozenset({State.SENDING, State.ACCEPTED, State.UNKNOWN})
_PAID = frozenset({State.PAID, State.POSTING, State.DISBURSED})
_GOES_BY_ITSELF = frozenset({State.DETECTED, State.READY})
_PERSONS = frozenset({HeldFor.BY_PERSON, HeldFor.CANCELLED})

_GOES_ON_BY: dict[HeldFor, str] = {
    HeldFor.WALLET_SHORT: "it goes by itself once the wallet covers its charges: `vault wallet top-up {partner} ...`",
    HeldFor.FLOAT_SHORT: "it goes by itself once M-Pesa shows float for it: buy float, then see `vault partner show {partner}`",
    HeldFor.PARTNER_HALTED: "it goes by itself after `vault partner resume {partner}`",
    HeldFor.SENDING_HALTED: "it goes by itself after `vault halt --end`",
    HeldFor.MIFOS_AWAY: "it goes by itself when the lender's Mifos X is back: the case `mifos_away` says what keeps it",
    HeldFor.UNRESOLVED_PAYOUT: "it goes by itself when the other payout is settled: `vault disbursements resolve` on that one",
    HeldFor.BY_PERSON: "`vault disbursements release` lets it go on",
    HeldFor.CANCELLED: "`vault disbursements release` takes the cancellation back",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the act makes of the disbursement. `ends`: the instruction that M-Pesa never took and that is ended with it."""

    state: State
    words: str
    held_for: HeldFor | None = None
    ends: InstructionFacts | None = None


def plan_retry(standing: Standing, now: datetime) -> Plan:
    """Trying now what would be tried later, or what ran out of tries. Raises Conflict with what to do instead.

    Only after a definite failure that M-Pesa's class allows to be tried again; a loan that waits is looked at again at once.
    """
    _nothing_open_to_doubt(standing)
    if standing.state is State.HELD:
        return _look_again(standing)
    if standing.state in _GOES_BY_ITSELF:
        raise Conflict(f"{standing.loan} is {standing.state}: it goes by itself, there is nothing to try again")
    if standing.open_instruction is not None:
        return Plan(State.READY, "the same instruction goes again within seconds")
    last = standing.instructions[-1] if standing.instructions else None
    if last is None or last.result_code is None:
        raise Conflict(f"{standing.loan} was never refused by M-Pesa: `vault disbursements release` has it examined anew")
    meaning = meaning_of(last.result_code)
    said = f"M-Pesa {last.result_code}: {last.result_text}"
    if meaning.result_class is ResultClass.RETRY_NEXT_DAY and _same_day(last, now):
        raise Conflict(
            f"{standing.loan}: {meaning.words} ({said}); today it would only be refused again, it goes by itself "
            f"{_nairobi(standing.due_at)}"
        )
    if standing.state is State.NEEDS_REVIEW and refused_for_good(last.result_code):
        raise Conflict(
            f"{standing.loan} was refused for good ({said}): {meaning.words}. When the cause is gone, "
            "`vault disbursements release` has the loan and the client's number read again; `cancel` ends it"
        )
    return Plan(State.READY, "a new instruction goes within seconds")


def plan_hold(standing: Standing) -> Plan:
    """Keeping a loan that is not on its way from being sent. Raises Conflict for one that is, or that is over."""
    if standing.state in _ON_ITS_WAY:
        raise Conflict(f"{standing.loan} is {standing.state}: {_too_late(standing)}")
    if standing.state in _PAID:
        raise Conflict(f"{standing.loan} is paid, receipt {standing.receipt}: there is nothing to hold back")
    if standing.state is State.NEEDS_REVIEW:
        raise Conflict(f"{standing.loan} is with a person already: nothing is sent for it unless a person releases it")
    if standing.held_for in _PERSONS:
        raise Conflict(f"{standing.loan} is {_held_word(standing)} already: {standing.reason}")
    return Plan(State.HELD, "it is not sent until `vault disbursements release`", HeldFor.BY_PERSON)


def plan_cancel(standing: Standing) -> Plan:
    """Ending a loan that was not paid: we pay it no more. Raises Conflict while an instruction of it may have moved money."""
    _nothing_open_to_doubt(standing)
    if standing.held_for is HeldFor.CANCELLED:
        raise Conflict(f"{standing.loan} is cancelled already: {standing.reason}")
    return Plan(State.HELD, "it is never paid by us unless a person releases it", HeldFor.CANCELLED, standing.open_instruction)


def plan_release(standing: Standing) -> Plan:
    """Letting go what a person held, cancelled, or was given after a definite failure: it is read and examined anew.

    Raises Conflict for what waits for a cause that can be removed (and how), and while money may have moved.
    """
    goes_again = standing.held_for is HeldFor.BY_PERSON and _waits_to_go_again(standing)
    _nothing_open_to_doubt(standing, but_to_go_again=goes_again)
    if goes_again:
        return Plan(State.READY, "the same instruction, of which M-Pesa found nothing, goes again within seconds")
    if standing.state is State.HELD and standing.held_for in _PERSONS:
        return Plan(State.DETECTED, "it is read in Mifos X again and goes if nothing else stands against it")
    if standing.state is State.HELD:
        raise Conflict(f"{standing.loan} waits for {standing.held_for}, not for a person: {_goes_on_by(standing)}")
    if standing.state is State.NEEDS_REVIEW:
        return Plan(
            State.DETECTED, "it is read in Mifos X again, with the client's number, and goes if nothing stands against it"
        )
    raise Conflict(f"{standing.loan} is {standing.state}: nobody holds it back, it goes by itself")


def _nothing_open_to_doubt(standing: Standing, *, but_to_go_again: bool = False) -> None:
    if standing.proposed_by is not None:
        raise Conflict(
            f"{standing.loan}: what {standing.proposed_by} found out about it waits for a second person: "
            "`vault disbursements approve` or `reject`"
        )
    if standing.state in _PAID or standing.paid_instruction is not None:
        more = "; it is not in Mifos X yet: `vault disbursements resume`" if standing.state is State.NEEDS_REVIEW else ""
        raise Conflict(f"{standing.loan} is paid, receipt {standing.receipt}{more}")
    if (late := standing.said_paid_late) is not None:
        raise Conflict(
            f"{standing.loan}: M-Pesa said that instruction {late.number} failed, and later that it was paid, receipt "
            f"{late.receipt}. Look it up in the M-Pesa portal, then `vault disbursements resolve` with --paid {late.receipt} or "
            "--not-paid"
        )
    instruction = standing.open_instruction
    may_have_moved = instruction is not None and instruction.may_have_moved_money
    if standing.state in _ON_ITS_WAY or (may_have_moved and not but_to_go_again):
        which = "it" if instruction is None else f"instruction {instruction.number}"
        raise Conflict(f"{standing.loan}: nobody knows yet whether {which} was paid. {_too_late(standing)}")


def _waits_to_go_again(standing: Standing) -> bool:
    # M-Pesa found nothing under its id and is not asked any more: only the same one may follow, or a person's word.
    instruction = standing.open_instruction
    if standing.state is not State.HELD or instruction is None:
        return False
    return instruction.state is AttemptState.REFUSED and instruction.may_have_moved_money


def _too_late(standing: Standing) -> str:
    if _waits_to_go_again(standing):
        return (
            "M-Pesa found nothing under its id, and the same one goes again once nothing holds it. If it shall not: `hold` it, "
            "look it up in the M-Pesa portal, `vault disbursements resolve` with --paid RECEIPT or --not-paid, then `cancel`"
        )
    if standing.state is State.NEEDS_REVIEW:
        return "Look it up in the M-Pesa portal, then `vault disbursements resolve` with --paid RECEIPT or --not-paid"
    instruction = standing.open_instruction
    asked = f" (asked {instruction.queries} times so far)" if instruction is not None and instruction.queries else ""
    return f"Its result, or M-Pesa's answer to a status question, will tell{asked}: `vault disbursements show` follows it"


def _look_again(standing: Standing) -> Plan:
    if standing.held_for in _GOES_ON_BY:
        raise Conflict(f"{standing.loan} waits for {standing.held_for}: {_goes_on_by(standing)}")
    return Plan(State.DETECTED, "it is read in Mifos X again within seconds and goes if its cause is gone")


def _goes_on_by(standing: Standing) -> str:
    known = _GOES_ON_BY.get(standing.held_for) if standing.held_for is not None else None
    if known is None:
        return f"{standing.reason}. `vault disbursements retry` looks at it again at once"
    return known.format(partner=standing.partner)


def _held_word(standing: Standing) -> str:
    return "cancelled" if standing.held_for is HeldFor.CANCELLED else "held"


def _same_day(instruction: InstructionFacts, now: datetime) -> bool:
    return instruction.result_at is not None and business_day(instruction.result_at) == business_day(now)


def _nairobi(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
