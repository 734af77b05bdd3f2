"""How each kind of case ends, as one table: by a person who closes it, by the command that settles its matter, or by itself.

A case about money that is still open is never closed by a word: the command that settles the money closes it. Decisions on values
alone.
"""

from dataclasses import dataclass
from enum import StrEnum

from vault_core.money import Money


class End(StrEnum):
    """What ends a case."""

    BY_PERSON = "by_person"  # one; two where it is about more than one person may decide on
    BY_TWO = "by_two"  # always two people
    BY_COMMAND = "by_command"  # the one that settles its matter
    BY_ITSELF = "by_itself"


@dataclass(frozen=True, slots=True)
class Ending:
    """How one kind ends. `words`: the command, or what must happen, as a person is told. `{name}`, `{partner}` are filled in."""

    end: End
    words: str


_RESOLVE = Ending(End.BY_COMMAND, "look the payout up in the M-Pesa portal, then `vault disbursements resolve {name}`")
_PERSON = Ending(End.BY_PERSON, "once nothing more is to do about it, `vault cases close {case}`")
_TWO = Ending(End.BY_TWO, "once nothing more is to do about it, `vault cases close {case}`; a second person approves")

# Every kind that code opens (tests/unit/test_case_kinds.py); docs/operations.md says what happened and what to do.
ENDINGS: dict[str, Ending] = {
    # payouts
    "payout_unresolved": _RESOLVE,
    "payout_not_taken": Ending(End.BY_COMMAND, "`vault disbursements retry {name}` or `cancel`"),
    "payout_failed": Ending(End.BY_COMMAND, "`vault disbursements release {name}`, `retry` or `cancel`"),
    "disbursement_unposted": Ending(End.BY_COMMAND, "`vault disbursements resume {partner}`, or disburse it in Mifos X by hand"),
    "posting_to_be_undone": Ending(
        End.BY_ITSELF, "undo the disbursal in Mifos X; the case closes when the loan is read without it"
    ),
    "contradicting_result": _PERSON,  # unless what it says still waits for `resolve`: see `Facts.unsettled`
    "paid_amount_differs": Ending(
        End.BY_COMMAND, "have the difference made good, then `vault disbursements resolve {name} --paid RECEIPT --amount ...`"
    ),
    "second_conversation_id": _PERSON,
    "result_not_understood": _PERSON,
    "result_without_payout": _PERSON,
    "disbursal_undone": _PERSON,
    "top_up_payoff_differs": _PERSON,
    "credentials_sealed": Ending(End.BY_ITSELF, "the first poll that opens the credentials closes the case"),
    "partner_halted": Ending(End.BY_COMMAND, "remove the cause, then `vault partner resume {partner}`"),
    "float_short": Ending(End.BY_ITSELF, "the partner buys float; the case closes when nothing waits for it any more"),
    "float_gap": _PERSON,
    "clock_behind": _PERSON,
    "tariff_difference": _PERSON,
    # collections
    "unmatched_payment": Ending(End.BY_COMMAND, "`vault collections assign` it, or have it given back"),
    "collection_not_posted": Ending(End.BY_COMMAND, "`vault collections resume {partner}`"),
    "collection_not_charged": _PERSON,
    "collection_not_moved": _PERSON,
    "receipt_conflict": _PERSON,
    "balance_gap": _PERSON,
    "posted_payment_undone": _PERSON,
    "payment_entered_by_hand": _PERSON,
    "feed_missing_confirmations": _PERSON,
    "feed_pull_incomplete": _PERSON,
    "feed_window_lost": _PERSON,
    "feed_pull_failing": Ending(End.BY_ITSELF, "the first pull that succeeds closes the case"),
    "pull_row_unreadable": _PERSON,
    "reversal_unknown": Ending(End.BY_COMMAND, "look in the M-Pesa portal, then `vault collections reversal-seen`"),
    "contradicting_reversal": _TWO,
    "unknown_stk_callback": _PERSON,
    "stk_amount_differs": _PERSON,
    "stk_contradiction": _PERSON,
    "stk_paid_unbooked": _PERSON,  # or by itself, when the payment is booked within three days
    "foreign_short_code": _PERSON,
    # calls and texts
    "call_given_up": _PERSON,  # unless it posts money: see `of_call`
    "sms_unknown": _PERSON,
    "sms_refused": _PERSON,
    "sms_bad_phone": _PERSON,
    "sms_gateway_refuses": Ending(End.BY_ITSELF, "correct the partner's SMS access; the first accepted text closes the case"),
    "mifos_away": Ending(End.BY_ITSELF, "the first answer of the lender's Mifos X closes the case"),
    # the books
    "ledger_broken": _TWO,
}
_POSTING_CALLS = {
    "disbursement.post": "disbursements",
    "collection.post": "collections",
    "collection.undo": "collections",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """A case as far as its ending depends on it.

    `unsettled`: the loan whose payout it leaves open to doubt, if it does. `settled`: what it is about is proved to be over, so
    that only the case was left behind.
    """

    kind: str
    subject: str
    amount: Money | None
    unsettled: str | None = None
    settled: bool = False


def ending_of(facts: Facts) -> Ending:
    """How the case ends. A kind that the table does not know takes two people."""
    if facts.unsettled is not None:
        return _RESOLVE
    ending = _of_kind(facts)
    return _PERSON if facts.settled and not is_closed_by_people(ending) else ending


def _of_kind(facts: Facts) -> Ending:
    if facts.kind == "call_given_up" and (group := _POSTING_CALLS.get(facts.subject.split(" ")[0])) is not None:
        return Ending(End.BY_COMMAND, f"`vault {group} resume {{partner}}`")
    return ENDINGS.get(facts.kind, _TWO)


def told(ending: Ending, facts: Facts, *, case: str, partner: str | None) -> str:
    """The ending in words, with the names that a command needs."""
    name = facts.unsettled or facts.subject.split(" ")[-1]
    return ending.words.format(name=name, partner=partner or "PARTNER", case=case)


def is_closed_by_people(ending: Ending) -> bool:
    """Whether `vault cases close` may end it."""
    return ending.end in {End.BY_PERSON, End.BY_TWO}


def needs_second_person(ending: Ending, amount: Money | None, alone_up_to: Money) -> bool:
    """Whether one person's word is not enough to close it."""
    return ending.end is End.BY_TWO or (amount is not None and amount > alone_up_to)
